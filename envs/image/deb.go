package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz/lzma"

	"github.com/stead-env/stead/envs/store"
)

// Bounds on what one package may bring. The largest packages of Debian have
// 2 GB in 100,000 entries.
const (
	maxEntries     = 400_000
	maxBytes       = 8 << 30
	maxRecordBytes = 64 << 20 // all members of control.tar
	maxDict        = 256 << 20
)

// debMagic begins every ar archive, and so every .deb.
const debMagic = "!<arch>\n"

// unpackDeb unpacks a .deb (deb(5)) without running anything of it: the entries of
// data.tar, and the members of control.tar as the records that dpkg keeps of them
// under var/lib/dpkg/info.
func unpackDeb(ctx context.Context, br *bufio.Reader, w *writer) (store.Manifest, error) {
	t := newTreeBuilder(w)
	if magic, err := io.ReadAll(io.LimitReader(br, int64(len(debMagic)))); err != nil || string(magic) != debMagic {
		return nil, errors.Join(errors.New("it is no .deb: the ar magic is missing"), err)
	}
	var control, data bool
	for {
		name, size, err := arHeader(br)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		member := io.LimitReader(br, size)
		switch {
		case strings.HasPrefix(name, "control.tar") && !control:
			control = true
			err = readTar(ctx, name, member, t.record)
			if err == nil {
				err = t.placeRecords()
			}
		case strings.HasPrefix(name, "data.tar") && !data:
			data = true
			err = readTar(ctx, name, member, t.add)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if _, err := io.Copy(io.Discard, member); err != nil {
			return nil, err
		}
		if size%2 == 1 {
			if _, err := br.Discard(1); err != nil && err != io.EOF {
				return nil, err
			}
		}
	}
	if !control || !data {
		return nil, errors.New("it is cut off: control.tar or data.tar is missing")
	}
	return t.finish()
}

// arHeader reads the 60 bytes before each member; see ar(5).
func arHeader(r io.Reader) (name string, size int64, err error) {
	var h [60]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = errors.New("its last ar header is cut off")
		}
		return "", 0, err
	}
	if h[58] != '`' || h[59] != '\n' {
		return "", 0, errors.New("it has a malformed ar header")
	}
	name = strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	size, err = strconv.ParseInt(strings.TrimRight(string(h[48:58]), " "), 10, 64)
	if err != nil || size < 0 {
		return "", 0, fmt.Errorf("ar member %q has a malformed size", name)
	}
	return name, size, nil
}

// readTar calls fn for each entry of a tar file, compressed as its name says.
func readTar(ctx context.Context, name string, r io.Reader, fn func(*tar.Header, io.Reader) error) error {
	plain, done, err := decompress(path.Ext(name), r)
	if err != nil {
		return err
	}
	defer done()
	tr := tar.NewReader(plain)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			// What follows the end of the tar has to be good too: it is the
			// compressor's checksum.
			_, err := io.Copy(io.Discard, io.LimitReader(plain, 16<<20))
			return err
		}
		if err != nil {
			return err
		}
		if err := fn(h, tr); err != nil {
			return err
		}
	}
}

func decompress(ext string, r io.Reader) (plain io.Reader, done func(), err error) {
	done = func() {}
	switch ext {
	case ".tar":
		return r, done, nil
	case ".gz":
		plain, err = gzip.NewReader(r)
	case ".xz":
		plain, err = xz.NewReader(r, maxDict)
	case ".zst":
		var d *zstd.Decoder
		d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxDict))
		if err == nil {
			plain, done = d, d.Close
		}
	case ".bz2":
		plain = bzip2.NewReader(r)
	case ".lzma":
		plain, err = lzma.ReaderConfig{DictCap: maxDict}.NewReader(r)
	default:
		return nil, nil, fmt.Errorf("unknown compression %q", ext)
	}
	return plain, done, err
}

// record keeps a member of control.tar; dpkg stores all of them but control.
func (t *treeBuilder) record(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeDir {
		return nil
	}
	name := strings.TrimPrefix(h.Name, "./")
	if h.Typeflag != tar.TypeReg || strings.ContainsAny(name, "/\x00") || name == "" || name[0] == '.' {
		return fmt.Errorf("unexpected member %q", h.Name)
	}
	if t.recordBytes += h.Size; t.recordBytes > maxRecordBytes || len(t.records) > 1000 {
		return fmt.Errorf("it is larger than %d bytes", maxRecordBytes)
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	h.Name = name
	t.records, t.contents = append(t.records, *h), append(t.contents, content)
	return nil
}

// placeRecords writes the records under the names that dpkg gives them: see
// --control-path in dpkg-query(1). Packages that can be installed for several
// architectures carry theirs in the name.
func (t *treeBuilder) placeRecords() error {
	var name string
	for i, h := range t.records {
		if h.Name != "control" {
			continue
		}
		fields, err := controlFields(t.contents[i])
		if err != nil {
			return fmt.Errorf("control: %w", err)
		}
		if name = fields.Get("Package"); fields.Get("Multi-Arch") == "same" {
			name += ":" + fields.Get("Architecture")
		}
	}
	if name == "" || strings.ContainsAny(name, "/\x00") || name[0] == '.' {
		return fmt.Errorf("control names no package, or the impossible %q", name)
	}
	for i, h := range t.records {
		if h.Name == "control" {
			continue
		}
		h.Name = "var/lib/dpkg/info/" + name + "." + h.Name
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if err := t.add(&h, bytes.NewReader(t.contents[i])); err != nil {
			return err
		}
	}
	t.records, t.contents = nil, nil
	return nil
}

// controlFields reads the one stanza of a control file; its syntax is that of mail
// headers, but for names that aren't canonical.
func controlFields(control []byte) (textproto.MIMEHeader, error) {
	text := append(bytes.TrimSpace(control), "\n\n"...)
	return textproto.NewReader(bufio.NewReader(bytes.NewReader(text))).ReadMIMEHeader()
}
