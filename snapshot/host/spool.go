package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/snapshot"
)

const (
	maxSpool  = 1 << 40   // bytes of all layers, holes included
	maxWindow = 128 << 20 // bytes that a zstd frame may refer back to
)

// blob is a part of an open file.
type blob struct {
	f        *os.File
	at, size int64
	borrowed bool // f is somebody else's
}

func (b *blob) section(at, size int64) *io.SectionReader {
	return io.NewSectionReader(b.f, b.at+at, size)
}

func (b *blob) close() error {
	if b == nil || b.borrowed {
		return nil
	}
	return b.f.Close()
}

// spool holds on disk what had to be decompressed.
type spool struct {
	dir      string
	progress snapshot.Progress
	total    atomic.Int64
}

// compression tells how the bytes of a file are compressed.
func compression(start []byte) string {
	for _, c := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"}, {"zstd", "\x28\xb5\x2f\xfd"}, {"xz", "\xfd7zXZ\x00"}, {"bzip2", "BZh"}, {"lz4", "\x04\x22\x4d\x18"},
	} {
		if bytes.HasPrefix(start, []byte(c.magic)) {
			return c.name
		}
	}
	if len(start) >= 8 && start[0] >= 0x50 && start[0] <= 0x5f && bytes.Equal(start[1:4], []byte("\x2a\x4d\x18")) {
		return "zstd" // begins with a skippable frame
	}
	return ""
}

// plain gives the content of a blob without its compression, if it has one.
func plain(b *blob) (r io.ReadCloser, compressed bool, err error) {
	in := bufio.NewReaderSize(b.section(0, b.size), 256<<10)
	start, err := in.Peek(8)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch c := compression(start); c {
	case "":
		return io.NopCloser(in), false, nil
	case "gzip":
		z, err := gzip.NewReader(in)
		return z, true, err
	case "zstd":
		z, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, false, err
		}
		return z.IOReadCloser(), true, nil
	default:
		return nil, true, fmt.Errorf("it is compressed with %s, and gzip and zstd are what is known", c)
	}
}

// unpack brings all layers into a form that can be read at any place, and checks
// that they are what the image names.
func (s *spool) unpack(ctx context.Context, a *archive, layers []layer) ([]*blob, error) {
	blobs := make([]*blob, len(layers))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(goruntime.GOMAXPROCS(0), 4))
	var read atomic.Int64
	total := int64(0)
	for _, l := range layers {
		total += l.size
	}
	for i, l := range layers {
		g.Go(func() error {
			b, err := s.one(ctx, a, l)
			if err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(layers), l.label(), err)
			}
			blobs[i] = b
			s.progress.Report(snapshot.Event{Stage: "unpacking layers", Done: read.Add(l.size), Total: total, Unit: "bytes"})
			return nil
		})
	}
	err := g.Wait()
	if err != nil {
		for _, b := range blobs {
			b.close() //nolint:errcheck // there is an error already
		}
		return nil, err
	}
	return blobs, nil
}

// one checks a layer, and spools it unless it lies there as it is.
func (s *spool) one(ctx context.Context, a *archive, l layer) (*blob, error) {
	b, err := a.open(l.name)
	if err != nil {
		return nil, err
	}
	if l.digest.Hex != "" {
		if err := check(ctx, b.section(0, b.size), l.digest.Hex); err != nil {
			b.close() //nolint:errcheck // there is an error already
			return nil, err
		}
	}
	r, compressed, err := plain(b)
	if err != nil {
		b.close() //nolint:errcheck // there is an error already
		return nil, err
	}
	defer r.Close()
	if !compressed {
		if l.digest != l.diffID {
			err = check(ctx, b.section(0, b.size), l.diffID.Hex)
		}
		if err != nil {
			b.close() //nolint:errcheck // there is an error already
		}
		return b, err
	}
	defer b.close() //nolint:errcheck // it was only read
	h := sha256.New()
	out, err := s.keep(ctx, io.TeeReader(r, h))
	if err == nil {
		if got := hex.EncodeToString(h.Sum(nil)); got != l.diffID.Hex {
			out.close() //nolint:errcheck // there is an error already
			return nil, fmt.Errorf("it is damaged: its content has the digest sha256:%s in place of %s", got, l.diffID)
		}
	}
	return out, err
}

// check compares a content with its SHA-256.
func check(ctx context.Context, r io.Reader, want string) error {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, &contextReader{ctx, r}, make([]byte, 1<<20)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("it is damaged: it has the digest sha256:%s in place of sha256:%s", got, want)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

var zeros [256 << 10]byte

// keep copies to a temporary file without a name. Blocks of zeros become holes: a few
// bytes can be compressed from very many.
func (s *spool) keep(ctx context.Context, r io.Reader) (*blob, error) {
	f, err := os.CreateTemp(s.dir, "layer-")
	if err != nil {
		return nil, err
	}
	b := &blob{f: f}
	err = os.Remove(f.Name())
	buf := make([]byte, len(zeros))
	in := &contextReader{ctx, r}
	for err == nil {
		var n int
		n, err = fill(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := f.WriteAt(buf[:n], b.size); err != nil {
				f.Close()
				return nil, err
			}
		}
		b.size += int64(n)
		if s.total.Add(int64(n)) > maxSpool {
			err = fmt.Errorf("more than %d bytes", int64(maxSpool))
		}
	}
	if err == io.EOF {
		err = f.Truncate(b.size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}

// fill reads until p is full. Unlike io.ReadFull it gives errors as they are: a stream
// that is cut short has to be told from one that ends.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = r.Read(p[n:])
		n += k
	}
	return n, err
}
