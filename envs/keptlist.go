package envs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
)

// KeptNames lists the sessions of a store by name.
func KeptNames(st *store.Store) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(st.Dir(), keptDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	var names []string
	for _, e := range entries {
		_, err := os.Lstat(filepath.Join(st.Dir(), keptDir, e.Name(), keptFile))
		if err == nil && CheckSessionName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// KeptInfo tells of a session that is kept.
type KeptInfo struct {
	Name     string        `json:"name"`
	Target   string        `json:"target"`
	Release  int           `json:"release"`
	Identity digest.Digest `json:"identity"`
	Engine   string        `json:"engine"`
	Created  time.Time     `json:"created"`
	Used     time.Time     `json:"used"`
	Changed  int           `json:"changed"` // files made, changed and removed
	Bytes    int64         `json:"bytes"`   // on disk
	Running  bool          `json:"running"`
	// Problem says why it can't be entered; "" where it can.
	Problem string `json:"problem,omitempty"`
}

// ListKept lists the sessions of a store by name, whether they are running or not.
func ListKept(st *store.Store) ([]KeptInfo, error) {
	names, err := KeptNames(st)
	if err != nil {
		return nil, err
	}
	list := []KeptInfo{}
	for _, name := range names {
		k := &Kept{Name: name, st: st, dir: keptPath(st, name)}
		info := KeptInfo{Name: name}
		if err := k.load(); errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		} else if err != nil {
			info.Problem = err.Error()
		}
		u, err := k.usage()
		if err != nil && info.Problem == "" {
			info.Problem = err.Error()
		}
		r := k.record
		info.Target, info.Release, info.Identity, info.Engine = r.Target, r.Release, r.Identity, r.Engine
		info.Created, info.Used, info.Changed, info.Bytes = r.Created, r.Used, u.files, u.bytes
		if info.Running, err = runningNow(k.dir); err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// runningNow tells whether somebody holds a session for themselves alone.
func runningNow(dir string) (bool, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	switch err := unix.Flock(int(d.Fd()), unix.LOCK_SH|unix.LOCK_NB); err {
	case unix.EWOULDBLOCK:
		return true, nil
	default:
		return false, err
	}
}

// usage is what a session takes.
type usage struct {
	files int
	bytes int64
}

// usage counts what the session changed, and the disk that it takes. In a session that
// is running files may vanish meanwhile.
func (k *Kept) usage() (usage, error) {
	var u usage
	points, err := runtime.KeptPoints(k.Upper())
	if err != nil {
		return u, fmt.Errorf("reading session %s: %w", k.Name, err)
	}
	upper := filepath.Join(k.Upper(), keptUpper)
	err = filepath.WalkDir(upper, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENAMETOOLONG) { // deeper than paths go
			return nil
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		u.bytes += st.Blocks * 512
		if rel := strings.TrimPrefix(p, upper+"/"); !d.IsDir() && (st.Size > 0 || !slices.Contains(points, rel)) {
			u.files++
		}
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("reading session %s: %w", k.Name, err)
	}
	return u, nil
}
