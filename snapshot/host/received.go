package host

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
)

// received keeps the contents that came from a host until the snapshot is done: an
// interrupted one goes on with them. They lie behind one another in numbered files,
// beside each of which an index says what is whole.
type received struct {
	dir  string
	keep bool // for the next run
	lock *os.File

	mu    sync.Mutex
	at    map[contentKey]stretch
	next  int
	total int64
}

// contentKey names one content of one path by a hash of its path and stamp.
type contentKey [16]byte

func keyOf(f snapshot.File) contentKey {
	h := sha256.New()
	io.WriteString(h, f.Path+"\x00") //nolint:errcheck // a hash takes everything
	h.Write(f.Change[:])             //nolint:errcheck // as above
	return contentKey(h.Sum(nil)[:len(contentKey{})])
}

// stretch is where a content lies.
type stretch struct {
	file     int
	at, size int64
	sum      [sha256.Size]byte
}

const (
	maxReceived = 4 << 30   // bytes kept for the next run
	maxKnown    = 1_000_000 // contents
	indexRecord = 16 + 8 + 8 + sha256.Size
)

// openReceived takes over what an earlier run received. Where another process is at it,
// or dir is "", nothing is kept.
func openReceived(dir, temp string) (*received, error) {
	r := &received{dir: dir, keep: dir != "", at: map[contentKey]stretch{}}
	if r.keep {
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			r.lock, err = os.Open(dir)
		}
		if err != nil {
			return nil, fmt.Errorf("opening what was received: %w", err)
		}
		if unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return r, r.load()
		}
		r.lock.Close()
		r.keep, r.lock = false, nil
	}
	var err error
	r.dir, err = os.MkdirTemp(temp, "received-")
	return r, err
}

func (r *received) name(n int, kind string) string {
	return filepath.Join(r.dir, strconv.Itoa(n)+"."+kind)
}

// load reads the indexes. A file without one, or with a bad one, is dropped.
func (r *received) load() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, kind, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.Atoi(number)
		if err != nil || kind != "data" || !r.loadIndex(n) {
			if kind == "data" || kind == "part" {
				_ = os.Remove(filepath.Join(r.dir, e.Name()))
			}
			continue
		}
		r.next = max(r.next, n)
	}
	return nil
}

func (r *received) loadIndex(n int) bool {
	index, err := os.ReadFile(r.name(n, "index"))
	st, statErr := os.Stat(r.name(n, "data"))
	if err != nil || statErr != nil || len(index)%indexRecord != 0 {
		return false
	}
	for ; len(index) > 0 && len(r.at) < maxKnown; index = index[indexRecord:] {
		p := stretch{file: n, at: int64(binary.LittleEndian.Uint64(index[16:])), size: int64(binary.LittleEndian.Uint64(index[24:]))}
		copy(p.sum[:], index[32:])
		if p.at >= 0 && p.size >= 0 && p.at <= st.Size()-p.size {
			r.at[contentKey(index)] = p
		}
	}
	r.total += st.Size()
	return true
}

// find finds a content.
func (r *received) find(f snapshot.File) (stretch, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.at[keyOf(f)]
	return p, ok && p.size == f.Size
}

var errDamaged = errors.New("a received content is damaged")

// open opens a content once it has been looked through: a machine that lost its power
// may have lost a part of it.
func (r *received) open(p stretch) (io.ReadCloser, error) {
	f, err := os.Open(r.name(p.file, "data"))
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(f, p.at, p.size))
	if err == nil && [sha256.Size]byte(h.Sum(nil)) != p.sum {
		err = errDamaged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, p.at, p.size), f}, nil
}

// forgetOne drops a content that turned out to be damaged.
func (r *received) forgetOne(f snapshot.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.at, keyOf(f))
}

// intake is a file that contents are written to.
type intake struct {
	r     *received
	n     int
	f     *os.File
	end   int64
	whole map[contentKey]stretch
}

// begin makes a file for the next contents.
func (r *received) begin() (*intake, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	f, err := os.OpenFile(r.name(r.next, "data"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	return &intake{r: r, n: r.next, f: f, whole: map[contentKey]stretch{}}, err
}

// write adds a content without the blocks of zeros in it, and says where it lies.
func (b *intake) write(src io.Reader, size int64) (stretch, error) {
	p := stretch{file: b.n, at: b.end, size: size}
	h := sha256.New()
	buf := make([]byte, 64<<10)
	for left := size; left > 0; {
		n, err := io.ReadFull(src, buf[:min(left, int64(len(buf)))])
		if err != nil {
			return p, err
		}
		h.Write(buf[:n]) //nolint:errcheck // a hash takes everything
		if n < 4096 || !allZero(buf[:n]) {
			if _, err := b.f.WriteAt(buf[:n], b.end); err != nil {
				return p, err
			}
		}
		left, b.end = left-int64(n), b.end+int64(n)
	}
	h.Sum(p.sum[:0])
	return p, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// done says that a content is whole.
func (b *intake) done(f snapshot.File, p stretch) { b.whole[keyOf(f)] = p }

// close makes the contents that are whole known, and writes the index. What is too much to
// be kept has none.
func (b *intake) close() error {
	err := errors.Join(b.f.Truncate(b.end), b.f.Close())
	index := make([]byte, 0, len(b.whole)*indexRecord)
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	for k, p := range b.whole {
		index = append(index, k[:]...)
		index = binary.LittleEndian.AppendUint64(index, uint64(p.at))
		index = binary.LittleEndian.AppendUint64(index, uint64(p.size))
		index = append(index, p.sum[:]...)
		b.r.at[k] = p
	}
	if err != nil || len(index) == 0 || !b.r.keep || b.r.total+b.end > maxReceived {
		return err
	}
	b.r.total += b.end
	if err := os.WriteFile(b.r.name(b.n, "part"), index, 0o600); err != nil {
		return err
	}
	return os.Rename(b.r.name(b.n, "part"), b.r.name(b.n, "index"))
}

// drop removes the file of an intake that has been handed on, unless the next run may need it.
func (b *intake) drop() error {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if _, err := os.Lstat(b.r.name(b.n, "index")); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for k := range b.whole {
		if b.r.at[k].file == b.n {
			delete(b.r.at, k)
		}
	}
	return os.Remove(b.r.name(b.n, "data"))
}

// forget drops everything.
func (r *received) forget() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.at)
	if r.dir == "" {
		return nil
	}
	r.keep = false
	return os.RemoveAll(r.dir)
}

// close gives the folder up.
func (r *received) close() error {
	if r == nil {
		return nil
	}
	var err error
	if !r.keep {
		err = r.forget()
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
		r.lock = nil
	}
	return err
}
