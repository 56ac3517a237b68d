package content

import (
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// maxDirectory bounds a zip's list of its files, which is kept in memory.
const maxDirectory = 24 << 20

// zipFile reads a zip file and what has its form: a wheel, a jar.
func (a *archive) zipFile(ctx context.Context, r io.Reader) error {
	all, done, err := a.hold(r)
	if err != nil {
		return err
	}
	defer done()
	if err := a.zip64(all); err != nil {
		return err
	}
	directory := &metered{r: all, left: maxDirectory}
	zr, err := zip.NewReader(directory, all.Size())
	if err != nil {
		return err
	}
	directory.left = 1 << 62
	decompressors(zr)
	if a.set.Format == Wheel {
		a.set.Package, err = wheelPackage(zr.File)
	} else if a.set.Within == nil && a.At == "" && a.set.Format == Zip {
		a.zipRoot(zr.File)
	}
	if err != nil {
		return err
	}
	for _, f := range zr.File {
		if err := a.zipEntry(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// zip64 refuses a count of files that memory would be set aside for.
func (a *archive) zip64(all *io.SectionReader) error {
	tail := make([]byte, min(all.Size(), 128<<10))
	if _, err := all.ReadAt(tail, all.Size()-int64(len(tail))); err != nil && err != io.EOF {
		return err
	}
	for {
		i := bytes.Index(tail, []byte("PK\x06\x07"))
		if i < 0 || len(tail) < i+16 {
			return nil
		}
		tail = tail[i+4:]
		var end [56]byte
		off := binary.LittleEndian.Uint64(tail[4:])
		if off > uint64(all.Size()) {
			continue
		}
		if _, err := all.ReadAt(end[:], int64(off)); err != nil || string(end[:4]) != "PK\x06\x06" {
			continue
		}
		if binary.LittleEndian.Uint64(end[32:]) > uint64(a.MaxEntries) {
			return fmt.Errorf("it has more than %d entries", a.MaxEntries)
		}
	}
}

// zipRoot puts files below the root where their names are those of its folders.
func (a *archive) zipRoot(files []*zip.File) {
	var like rootlike
	for _, f := range files {
		like.add(f.Name)
	}
	if like.root && !like.other {
		a.set.At = "/"
	}
}

// decompressors adds what newer tools use to the two that every zip reader has.
func decompressors(zr *zip.Reader) {
	zr.RegisterDecompressor(zip.Deflate, flate.NewReader)
	zr.RegisterDecompressor(12, func(r io.Reader) io.ReadCloser { return io.NopCloser(bzip2.NewReader(r)) })
	zr.RegisterDecompressor(93, func(r io.Reader) io.ReadCloser {
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return broken{err}
		}
		return d.IOReadCloser()
	})
	zr.RegisterDecompressor(95, func(r io.Reader) io.ReadCloser {
		d, err := xz.NewReader(r, maxWindow)
		if err != nil {
			return broken{err}
		}
		return io.NopCloser(d)
	})
}

// broken is a reader of nothing but its error.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }
func (b broken) Close() error             { return nil }

func (a *archive) zipEntry(ctx context.Context, z *zip.File) error {
	name := z.Name
	f := &File{Type: typeOf(z.Mode()), Mode: modeOf(z.FileInfo()), Size: int64(z.UncompressedSize64)}
	if a.set.Format == Wheel {
		name = wheelPlace(name)
	}
	if f.Type == Dir || f.Type == Other {
		return a.entry(ctx, name, f, nil)
	}
	if z.Flags&1 != 0 {
		return fmt.Errorf("%q is encrypted", z.Name)
	}
	r, err := z.Open()
	if err != nil {
		return fmt.Errorf("%q: %w", z.Name, err)
	}
	defer r.Close()
	plain := &bounded{w: a.walk, r: r}
	if f.Type == Link {
		target, err := io.ReadAll(io.LimitReader(plain, 4097))
		if err == nil && len(target) > 4096 {
			err = errors.New("it leads too far")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", z.Name, err)
		}
		f.Target, f.Size = string(target), 0
	}
	return a.entry(ctx, name, f, plain)
}

// wheelPlace is where a wheel's file is installed, as seen from the folder of modules: the
// parts of its data folder have places of their own.
func wheelPlace(name string) string {
	top, rest, _ := strings.Cut(name, "/")
	part, rest, _ := strings.Cut(rest, "/")
	if !strings.HasSuffix(top, ".data") || rest == "" {
		return name
	}
	switch part {
	case "purelib", "platlib":
		return rest
	case "scripts":
		return "bin/" + rest
	}
	return name
}

// wheelPackage reads what a wheel says of itself, in METADATA and WHEEL.
func wheelPackage(files []*zip.File) (*Package, error) {
	var p Package
	var wheel, metadata bool
	for _, f := range files {
		dir, base := path.Split(f.Name)
		if !strings.HasSuffix(dir, ".dist-info/") || strings.Count(dir, "/") != 1 || base != "WHEEL" && base != "METADATA" {
			continue
		}
		text, err := zipText(f)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		// What follows the headers of METADATA is for people.
		text, _, _ = bytes.Cut(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
		fields, err := stanza(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", f.Name, err)
		}
		if base == "WHEEL" {
			wheel = true
			for _, tag := range fields["Tag"] {
				p.Tags = append(p.Tags, expandTag(tag)...)
			}
			continue
		}
		metadata = true
		p.Name, p.Version, p.Python = fields.Get("Name"), fields.Get("Version"), fields.Get("Requires-Python")
		p.Depends = fields["Requires-Dist"]
	}
	if !wheel || !metadata {
		return nil, errors.New("it is no wheel: WHEEL or METADATA is missing")
	}
	return &p, nil
}

func zipText(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxControl+1))
	if err == nil && len(text) > maxControl {
		err = fmt.Errorf("it is larger than %d bytes", maxControl)
	}
	return text, err
}

// expandTag gives each of the tags that one stands for: "py2.py3-none-any" is two.
func expandTag(tag string) (tags []string) {
	parts := strings.Split(strings.TrimSpace(tag), "-")
	if len(parts) != 3 {
		return []string{tag}
	}
	pythons, abis, platforms := strings.Split(parts[0], "."), strings.Split(parts[1], "."), strings.Split(parts[2], ".")
	if len(pythons)*len(abis)*len(platforms) > 1000 {
		return []string{tag}
	}
	for _, python := range pythons {
		for _, abi := range abis {
			for _, platform := range platforms {
				tags = append(tags, python+"-"+abi+"-"+platform)
			}
		}
	}
	return tags
}

// metered ends with an error where more is read than may be.
type metered struct {
	r    io.ReaderAt
	left int64
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= int64(len(p)); m.left < 0 {
		return 0, fmt.Errorf("its directory is larger than %d bytes", maxDirectory)
	}
	return m.r.ReadAt(p, off)
}
