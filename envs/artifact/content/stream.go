package content

import (
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz/lzma"
)

const (
	// maxWindow bounds what a decompressor keeps: xz -9 has 64 MiB.
	maxWindow = 64 << 20
	// maxHeld bounds what is kept in memory of a file that is needed whole; the rest is
	// in a temporary file.
	maxHeld = 8 << 20
	// Nothing that is worth unpacking shrinks more than this, once it is large.
	maxRatio, ratioFrom = 1000, 1 << 30
)

// compression tells what compressed a file by its beginning; ext decides where that tells
// nothing: lzma has no magic number.
func compression(head []byte, ext string) string {
	for _, m := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"xz", "\xfd7zXZ\x00"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"bzip2", "BZh"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	switch ext {
	case ".lzma", ".tlz":
		return "lzma"
	}
	return ""
}

// decompress reads what a compressor made, within the walk's bounds.
func (w *walk) decompress(how string, r io.Reader) (plain io.Reader, done func(), err error) {
	in := &counter{r: r}
	done = func() {}
	switch how {
	case "":
		plain = in
	case "gzip":
		plain, err = gzip.NewReader(in)
	case "xz":
		plain, err = xz.NewReader(in, maxWindow)
	case "zstd":
		var d *zstd.Decoder
		d, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxWindow))
		if err == nil {
			plain, done = d, d.Close
		}
	case "bzip2":
		plain = bzip2.NewReader(in)
	case "lzma":
		plain, err = lzma.ReaderConfig{DictCap: maxWindow}.NewReader(in)
	default:
		err = fmt.Errorf("unknown compression %q", how)
	}
	if err != nil {
		return nil, nil, err
	}
	return &bounded{w: w, in: in, r: plain}, done, nil
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// bounded ends with an error where more is unpacked than the walk may.
type bounded struct {
	w  *walk
	in *counter // nil where nothing is known of it
	r  io.Reader
	n  int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	if b.w.bytes.Add(int64(n)) > b.w.MaxBytes {
		return 0, fmt.Errorf("more than %d bytes come out of it", b.w.MaxBytes)
	}
	if b.in != nil && b.n > ratioFrom && b.n/maxRatio > b.in.n {
		return 0, fmt.Errorf("%d bytes come out of %d", b.n, b.in.n)
	}
	return n, err
}

// hold gives access to all of a file that is read only once: in memory, or, where it is
// large, in a temporary file without a name.
func (w *walk) hold(r io.Reader) (*io.SectionReader, func(), error) {
	if all, ok := r.(*io.SectionReader); ok {
		return all, func() {}, nil
	}
	buf := holds.Get().(*bytes.Buffer)
	buf.Reset()
	done := func() { holds.Put(buf) }
	n, err := io.CopyN(buf, r, maxHeld+1)
	if err == io.EOF {
		return io.NewSectionReader(bytes.NewReader(buf.Bytes()), 0, n), done, nil
	}
	defer done()
	if err != nil {
		return nil, nil, err
	}
	f, err := os.CreateTemp(w.Spool, "stead-check-*")
	if err != nil {
		return nil, nil, stopped{err}
	}
	if n, err = w.spool(f, io.MultiReader(bytes.NewReader(buf.Bytes()), r)); err != nil {
		f.Close()
		return nil, nil, err
	}
	return io.NewSectionReader(f, 0, n), func() { f.Close() }, nil
}

func (w *walk) spool(f *os.File, r io.Reader) (int64, error) {
	if err := os.Remove(f.Name()); err != nil {
		return 0, stopped{err}
	}
	n, err := io.Copy(toFile{f}, io.LimitReader(r, w.MaxMember+1))
	if err == nil && n > w.MaxMember {
		err = fmt.Errorf("it is larger than %d bytes", w.MaxMember)
	}
	return n, err
}

// toFile tells errors of writing from those of reading: they are this machine's.
type toFile struct{ f *os.File }

func (t toFile) Write(p []byte) (int, error) {
	n, err := t.f.Write(p)
	if err != nil {
		err = stopped{err}
	}
	return n, err
}
