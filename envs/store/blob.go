package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// MismatchError says that bytes are not the ones that were asked for.
type MismatchError struct {
	Want, Got digest.Digest
	Size      int64 // bytes that came
	Cause     error // why no more came; nil where Got is the digest of all
}

func (e *MismatchError) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s is damaged after %d bytes: %v", e.Want, e.Size, e.Cause)
	}
	return fmt.Sprintf("got %d bytes with digest %s instead of %s", e.Size, e.Got, e.Want)
}

// MissingError says that the store has no such blob.
type MissingError struct{ Digest digest.Digest }

func (e *MissingError) Error() string { return fmt.Sprintf("blob %s is not in the store", e.Digest) }

// BlobPath is where the bytes of a blob lie, and whether they are compressed with
// zstd there; found is false where the store hasn't got it.
func (s *Store) BlobPath(d digest.Digest) (path string, compressed, found bool) {
	if d.Validate() != nil || d.Algorithm() != digest.SHA256 {
		return "", false, false
	}
	path = s.path("blobs", "sha256", d.Encoded())
	if _, err := os.Lstat(path); err == nil {
		return path, false, true
	}
	if _, err := os.Lstat(path + ".zst"); err == nil {
		return path + ".zst", true, true
	}
	return "", false, false
}

// HasBlob reports whether the store holds d.
func (s *Store) HasBlob(d digest.Digest) bool {
	_, _, ok := s.BlobPath(d)
	return ok
}

// OpenBlob opens a blob for reading. The bytes are hashed as they are read, and
// reading ends with a *MismatchError instead of io.EOF when they are not d's. A
// blob that isn't there is a *MissingError.
func (s *Store) OpenBlob(d digest.Digest) (io.ReadCloser, error) {
	path, compressed, ok := s.BlobPath(d)
	if !ok {
		return nil, &MissingError{Digest: d}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	r, err := Verify(f, compressed, d)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	return r, nil
}

// ReadBlob reads a small blob as a whole, which is quicker than OpenBlob. Its errors are
// the same; one that is larger than limit bytes is an error, too.
func (s *Store) ReadBlob(d digest.Digest, limit int64) ([]byte, error) {
	path, compressed, ok := s.BlobPath(d)
	if !ok {
		return nil, &MissingError{Digest: d}
	}
	return readWhole(path, compressed, d, limit)
}

// expected is how many times larger than their compressed bytes most indexes are.
const expected = 14

// decoders are those for whole blobs, by the bytes that may come out of them.
var decoders sync.Map

func readWhole(path string, compressed bool, d digest.Digest, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d, err)
	}
	defer f.Close()
	tooLarge := func() error { return fmt.Errorf("reading blob %s: it is larger than %d bytes", d, limit) }
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", d, err)
	}
	if fi.Size() > limit {
		return nil, tooLarge()
	}
	data := make([]byte, fi.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", d, err)
	}
	if compressed {
		dec, ok := decoders.Load(limit)
		if !ok {
			made, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(limit)))
			if err != nil {
				return nil, err
			}
			dec, _ = decoders.LoadOrStore(limit, made)
		}
		// Growing what comes out of it would take longer than decompressing does.
		room := make([]byte, 0, min(limit, expected*fi.Size()))
		data, err = dec.(*zstd.Decoder).DecodeAll(data, room)
		switch {
		case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
			return nil, tooLarge()
		case err != nil:
			return nil, &MismatchError{Want: d, Size: int64(len(data)), Cause: err}
		}
	}
	if got := digest.FromBytes(data); got != d {
		return nil, &MismatchError{Want: d, Got: got, Size: int64(len(data))}
	}
	return data, nil
}

// CheckBlob reads a blob to its end: a *MismatchError says that it is damaged.
func (s *Store) CheckBlob(d digest.Digest) error {
	r, err := s.OpenBlob(d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// DropBlob removes a blob, such as one whose bytes turned out to be wrong.
func (s *Store) DropBlob(d digest.Digest) error {
	path, _, ok := s.BlobPath(d)
	if !ok {
		return nil
	}
	return os.Remove(path)
}

// verified hashes what passes and checks it at the end.
type verified struct {
	r     io.Reader
	disk  *diskReader // what r decompresses; nil where it doesn't
	close func() error
	want  digest.Digest
	hash  hash.Hash
	n     int64
}

// Verify returns a reader of f's content, decompressed where it is compressed
// with zstd, that ends with a *MismatchError instead of io.EOF when the content is
// not d's. Closing it closes f.
func Verify(f io.ReadCloser, compressed bool, d digest.Digest) (io.ReadCloser, error) {
	v := &verified{r: f, close: f.Close, want: d, hash: sha256.New()}
	if compressed {
		v.disk = &diskReader{r: f}
		dec, err := zstd.NewReader(v.disk, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		v.r, v.close = dec, func() error { dec.Close(); return f.Close() }
	}
	return v, nil
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	v.n += int64(n)
	if err == io.EOF {
		if got := sum(v.hash); got != v.want {
			return n, &MismatchError{Want: v.want, Got: got, Size: v.n}
		}
	} else if err != nil && !errors.Is(err, fs.ErrClosed) {
		if v.disk != nil && v.disk.err == nil { // what can't be decompressed isn't what was written
			return n, &MismatchError{Want: v.want, Size: v.n, Cause: err}
		}
		err = fmt.Errorf("reading blob %s: %w", v.want, err)
	}
	return n, err
}

// diskReader keeps what went wrong below a decompressor.
type diskReader struct {
	r   io.Reader
	err error
}

func (d *diskReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}

func (v *verified) Close() error { return v.close() }

func sum(h hash.Hash) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(h.Sum(nil)))
}

// PutBlob stores the size bytes of r as d. It leaves nothing behind when they are
// others: the error is a *MismatchError then.
func (s *Store) PutBlob(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	if s.HasBlob(d) {
		return nil
	}
	w, err := s.NewBlob()
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	if _, err := io.Copy(w, io.LimitReader(r, size+1)); err != nil {
		return fmt.Errorf("storing blob %s: %w", d, err)
	}
	_, err = w.Commit(ctx, d)
	return err
}

// BlobWriter takes the bytes of a blob that isn't in the store yet.
type BlobWriter struct {
	s    *Store
	f    *os.File
	zw   *zstd.Encoder // nil: stored as it comes
	hash hash.Hash
	n    int64
}

// NewBlob begins a blob that is stored as it comes.
func (s *Store) NewBlob() (*BlobWriter, error) {
	work, err := s.workDir()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(work, "blob-")
	if err != nil {
		return nil, fmt.Errorf("making a blob: %w", err)
	}
	return &BlobWriter{s: s, f: f, hash: sha256.New()}, nil
}

// NewCompressedBlob begins a blob that is compressed on disk; its digest is that of
// the bytes written, since encoders change.
func (s *Store) NewCompressedBlob() (*BlobWriter, error) {
	w, err := s.NewBlob()
	if err != nil {
		return nil, err
	}
	w.zw, err = zstd.NewWriter(w.f, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Write adds bytes.
func (w *BlobWriter) Write(p []byte) (n int, err error) {
	if w.zw != nil {
		n, err = w.zw.Write(p)
	} else {
		n, err = w.f.Write(p)
	}
	w.hash.Write(p[:n])
	w.n += int64(n)
	return n, err
}

// Size is the number of bytes written so far.
func (w *BlobWriter) Size() int64 { return w.n }

// Reset drops the bytes written so far.
func (w *BlobWriter) Reset() error {
	w.hash.Reset()
	w.n = 0
	if w.zw != nil {
		w.zw.Reset(w.f)
	}
	if _, err := w.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return w.f.Truncate(0)
}

// Commit stores what was written, synced to disk, under its digest. Where want is
// given and the bytes are others the error is a *MismatchError and nothing is
// stored.
func (w *BlobWriter) Commit(ctx context.Context, want digest.Digest) (digest.Digest, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	got := sum(w.hash)
	if want != "" && got != want {
		return "", &MismatchError{Want: want, Got: got, Size: w.n}
	}
	name := w.s.path("blobs", "sha256", got.Encoded())
	if w.zw != nil {
		if err := w.zw.Close(); err != nil {
			return "", fmt.Errorf("storing blob %s: %w", got, err)
		}
		name += ".zst"
	}
	if err := w.f.Sync(); err != nil {
		return "", fmt.Errorf("storing blob %s: %w", got, err)
	}
	if err := os.Rename(w.f.Name(), name); err != nil {
		return "", fmt.Errorf("storing blob %s: %w", got, err)
	}
	err := w.f.Close()
	w.f = nil
	return got, errors.Join(err, syncDir(filepath.Dir(name)))
}

// Close drops what isn't committed. It may be called after Commit.
func (w *BlobWriter) Close() error {
	if w.f == nil {
		return nil
	}
	err := errors.Join(w.f.Close(), os.Remove(w.f.Name()))
	w.f = nil
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

var zeros [64 << 10]byte

// IsZero reports whether p holds nothing but zeros, and could be a hole of a file.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}
