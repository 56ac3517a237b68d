package chroot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// record is what has to be known of a session to tell afterwards what it changed.
// It is in a file of the session's folder, so that what a killed stead could not
// bring back the next one does. A path takes 16 bytes of it.
type record struct {
	sessionInfo
	mu   sync.Mutex
	base map[hash]hash   // what is brought back: path inside, and the file's state outside
	dirs map[hash]uint64 // folders of the private root: path inside, and inode
}

// sessionInfo is the part that says where everything is.
type sessionInfo struct {
	Layers []string        // the topmost first, the root filesystem last
	Upper  string          // where changes are kept
	Mounts []runtime.Mount // resolved
	Made   []string        // mount points that were made
	// Start is a time stamp of the private root's file system: what is not older was
	// changed by the session.
	Start [2]int64
}

type hash [8]byte

func hashOf(b []byte) (h hash) {
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

func newRecord() *record {
	return &record{base: map[hash]hash{}, dirs: map[hash]uint64{}}
}

// stateOf is a file's state: it changes with everything that is done to it.
func stateOf(st *unix.Stat_t) hash {
	b := make([]byte, 0, 64)
	for _, n := range []int64{int64(st.Ino), st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec,
		int64(st.Mode), int64(st.Uid)<<32 | int64(st.Gid)} {
		b = binary.NativeEndian.AppendUint64(b, uint64(n))
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		b = b[:0] // of a folder only that it is one: its entries are looked at themselves
	}
	return hashOf(b)
}

func (r *record) setBase(at string, st *unix.Stat_t) {
	key, state := hashOf([]byte(at)), stateOf(st)
	r.mu.Lock()
	r.base[key] = state
	r.mu.Unlock()
}

// forget takes back setBase: what somebody else is changing isn't the session's to
// remove or to replace.
func (r *record) forget(at string) {
	key := hashOf([]byte(at))
	r.mu.Lock()
	delete(r.base, key)
	r.mu.Unlock()
}

func (r *record) setDir(at string, ino uint64) {
	key := hashOf([]byte(at))
	r.mu.Lock()
	r.dirs[key] = ino
	r.mu.Unlock()
}

// moved reports whether the folder at a place isn't the one that was copied there.
func (r *record) moved(at string, st *unix.Stat_t) bool {
	ino, ok := r.dirs[hashOf([]byte(at))]
	return !ok || ino != st.Ino
}

// changed reports whether the session did something to a file of the private root.
func (r *record) changed(st *unix.Stat_t) bool {
	return st.Ctim.Sec > r.Start[0] || st.Ctim.Sec == r.Start[0] && st.Ctim.Nsec >= r.Start[1]
}

const recordName = "record"

// start takes the time of the private root's file system, waits until nothing
// that was done before can have it, and writes the record.
func (r *record) start(dir string) error {
	stamp := func() (st unix.Stat_t, err error) {
		name := filepath.Join(dir, "stamp")
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			err = unix.Stat(name, &st)
		}
		return st, errors.Join(err, os.Remove(name))
	}
	first, err := stamp()
	for err == nil {
		var now unix.Stat_t
		if now, err = stamp(); err == nil && now.Ctim != first.Ctim {
			// Time stamps may be finer than the clock that later ones come from.
			r.Start = [2]int64{now.Ctim.Sec, now.Ctim.Nsec}
			break
		}
	}
	if err != nil {
		return fmt.Errorf("reading the time of %s: %w", dir, err)
	}
	return r.write(filepath.Join(dir, recordName))
}

func (r *record) write(name string) (err error) {
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Rename(name+".new", name)) }()
	w := bufio.NewWriter(f)
	head, err := json.Marshal(r.sessionInfo)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\n%d %d\n", head, len(r.base), len(r.dirs))
	for k, v := range r.base {
		w.Write(k[:])
		w.Write(v[:])
	}
	for k, v := range r.dirs {
		w.Write(k[:])
		binary.Write(w, binary.NativeEndian, v)
	}
	return w.Flush()
}

// readRecord reads the record of a session's folder.
func readRecord(dir string) (*record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, err
	}
	bad := fmt.Errorf("reading %s: it is damaged", filepath.Join(dir, recordName))
	r := newRecord()
	head, rest, ok := bytes.Cut(data, []byte("\n"))
	if !ok || json.Unmarshal(head, &r.sessionInfo) != nil {
		return nil, bad
	}
	in := bufio.NewReader(bytes.NewReader(rest))
	var base, dirs int
	if _, err := fmt.Fscanf(in, "%d %d\n", &base, &dirs); err != nil {
		return nil, bad
	}
	for range base {
		var k, v hash
		if _, err := io.ReadFull(in, k[:]); err != nil {
			return nil, bad
		}
		if _, err := io.ReadFull(in, v[:]); err != nil {
			return nil, bad
		}
		r.base[k] = v
	}
	for range dirs {
		var k, v hash
		if _, err := io.ReadFull(in, k[:]); err != nil {
			return nil, bad
		}
		if _, err := io.ReadFull(in, v[:]); err != nil {
			return nil, bad
		}
		r.dirs[k] = binary.NativeEndian.Uint64(v[:])
	}
	return r, nil
}
