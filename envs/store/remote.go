package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
)

// Folder is a remote in a folder: a fleet's blobs/, in git or not, or one on a
// shared disk. Blobs lie there by digest, sha256/HEX or, compressed, sha256/HEX.zst.
type Folder struct{ Dir string }

// path is where the folder keeps d, if it does.
func (f Folder) path(d digest.Digest) (path string, compressed, ok bool) {
	if d.Validate() != nil {
		return "", false, false
	}
	path = filepath.Join(f.Dir, d.Algorithm().String(), d.Encoded())
	if _, err := os.Stat(path); err == nil {
		return path, false, true
	}
	if _, err := os.Stat(path + ".zst"); err == nil {
		return path + ".zst", true, true
	}
	return "", false, false
}

// Has reports whether the folder has d. It doesn't look at the bytes.
func (f Folder) Has(d digest.Digest) bool {
	_, _, ok := f.path(d)
	return ok
}

// Open opens a blob for reading, as Store.OpenBlob does. One that the folder lacks is a
// *MissingError.
func (f Folder) Open(d digest.Digest) (io.ReadCloser, error) {
	path, compressed, ok := f.path(d)
	if !ok {
		return nil, &MissingError{Digest: d}
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := Verify(in, compressed, d)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return r, nil
}

// Read reads a small blob as a whole, as Store.ReadBlob does.
func (f Folder) Read(d digest.Digest, limit int64) ([]byte, error) {
	path, compressed, ok := f.path(d)
	if !ok {
		return nil, &MissingError{Digest: d}
	}
	return readWhole(path, compressed, d, limit)
}

// Fetch brings d into the store, checked and in the form in which the folder has
// it. A blob that the folder lacks is a *MissingError.
func (f Folder) Fetch(ctx context.Context, s *Store, d digest.Digest) error {
	if s.HasBlob(d) {
		return nil
	}
	r, err := f.Open(d)
	if err != nil {
		return err
	}
	defer r.Close()
	path, compressed, _ := f.path(d)
	newBlob := s.NewBlob
	if compressed {
		newBlob = s.NewCompressedBlob
	}
	w, err := newBlob()
	if err != nil {
		return err
	}
	defer w.Close() //nolint:errcheck // dropping what isn't committed
	if _, err := io.Copy(w, contextReader{ctx, r}); err != nil {
		return fmt.Errorf("fetching %s: %w", path, err)
	}
	_, err = w.Commit(ctx, d)
	return err
}

// Push brings a blob of the store to the folder, where it may be read by everyone
// who may read the folder, and notes that the store's isn't the only copy.
func (f Folder) Push(ctx context.Context, s *Store, d digest.Digest) error {
	if f.Has(d) {
		return s.Shared(d)
	}
	src, compressed, ok := s.BlobPath(d)
	if !ok {
		return &MissingError{Digest: d}
	}
	if err := s.CheckBlob(d); err != nil {
		return &unpushedError{d, err}
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	dir := filepath.Join(f.Dir, d.Algorithm().String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	written, err := writing(dir)
	if err != nil {
		return err
	}
	defer written()
	name := d.Encoded()
	if compressed {
		name += ".zst"
	}
	if err := copyBeside(ctx, in, dir, name); err != nil {
		return fmt.Errorf("pushing %s to %s: %w", d, f.Dir, err)
	}
	return s.Shared(d)
}

// unpushedError says that the store's copy of a blob isn't what it was.
type unpushedError struct {
	digest digest.Digest
	err    error
}

func (e *unpushedError) Error() string { return fmt.Sprintf("pushing %s: %v", e.digest, e.err) }
func (e *unpushedError) Unwrap() error { return e.err }

// Hint says how to go on.
func (e *unpushedError) Hint() string {
	return "stead fsck --drop removes what is damaged; another snapshot, or the store that pushed it before, brings it anew"
}

// beside begins the names of files that aren't whole yet.
const beside = ".new-"

// writing says that a file is being written to dir. What killed processes left there
// goes first, unless somebody else writes right now: git would take it along.
func writing(dir string) (written func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), beside) {
				err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	// Some network file systems lock no folder; nothing is cleared there then.
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(d.Fd()), unix.LOCK_SH)
	}
	return func() { d.Close() }, nil
}

// copyBeside writes a new file next to its name, syncs and renames it.
func copyBeside(ctx context.Context, r io.Reader, dir, name string) error {
	out, err := os.CreateTemp(dir, beside)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, contextReader{ctx, r})
	err = errors.Join(err, out.Chmod(0o644), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(out.Name()))
	}
	return syncDir(dir)
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Sole notes that no archive and no remote is known to hold d: gc never takes it.
func (s *Store) Sole(d digest.Digest) error {
	return os.WriteFile(s.path("sole", d.Encoded()), nil, 0o600)
}

// Shared notes that a remote holds d.
func (s *Store) Shared(d digest.Digest) error {
	if err := os.Remove(s.path("sole", d.Encoded())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// IsSole reports whether the store's is the only known copy of d.
func (s *Store) IsSole(d digest.Digest) bool {
	_, err := os.Lstat(s.path("sole", d.Encoded()))
	return err == nil
}
