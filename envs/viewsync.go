package envs

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// Sync makes the view what the project is, but for what builds made: what changed since
// the last sync is copied in, what builds changed of it is put back, and what vanished
// leaves. .git and dist stay out. It returns how many paths it copied or removed.
func (v *View) Sync(ctx context.Context, project string, progress snapshot.Progress) (changed int, err error) {
	y := &syncer{view: v, project: project, progress: progress}
	err = y.run(ctx)
	if _, unreadable := errors.AsType[*stateError](err); unreadable {
		y = &syncer{view: v, project: project, progress: progress}
		if err = os.Remove(v.state); err == nil {
			err = y.run(ctx)
		}
	}
	if err != nil {
		return y.changed, fmt.Errorf("bringing the view of %s up to date: %w", project, err)
	}
	return y.changed, nil
}

// syncer does one sync.
type syncer struct {
	view     *View
	project  string
	progress snapshot.Progress
	old      *seenReader // what the last sync saw; nil where there was none
	now      *seenWriter
	head     seenHead
	newest   int64
	skip     string   // what lies in the project and is none of it
	verify   bool     // no copy is what it was by its inode alone
	plain    bool     // the file system has no reflinks
	journal  *os.File // see note
	touched  bool     // a file changed in a way that made no difference
	changed  int
}

// slack is how much later than by a clock a file can have been written: of two changes
// within a tick the second shows nowhere in the inode.
const slack = 20 * time.Millisecond

// run syncs. Where it ends early the old state stays, and tells the next sync to do all
// of it again.
func (y *syncer) run(ctx context.Context) (err error) {
	v := y.view
	if y.old = openSeen(v.state); y.old != nil {
		defer y.old.file.Close()
	} else if err := errors.Join(runtime.RemoveAll(v.Dir), v.make()); err != nil {
		return err // nothing tells what a sync put there
	}
	if rel, err := filepath.Rel(y.project, v.store); err == nil && filepath.IsLocal(rel) {
		y.skip = rel
	}
	y.head.boot = bootID()
	y.verify = y.old != nil && y.old.boot != y.head.boot
	if y.head.at, err = clock(v.state + ".clock"); err != nil {
		return err
	}
	src, err := os.Open(y.project)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Open(v.Dir)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := y.recall(); err != nil {
		return err
	}
	if y.now, err = newSeenWriter(v.state+".new", y.head); err != nil {
		return err
	}
	err = y.dir(ctx, src, dst, "", y.old != nil)
	return y.finish(err)
}

// clock is the time that a file system gives to what is written now.
func clock(name string) (int64, error) {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	var st unix.Stat_t
	err := os.WriteFile(name, nil, 0o600)
	if err == nil {
		err = errors.Join(unix.UtimesNanoAt(unix.AT_FDCWD, name, now, 0), unix.Stat(name, &st))
	}
	return unix.TimespecToNsec(st.Mtim), err
}

// finish puts the new state into place. Nothing is synced to the disk: after the machine
// went down each copy is compared.
func (y *syncer) finish(err error) error {
	if y.journal != nil {
		defer y.journal.Close()
	}
	err = errors.Join(err, y.now.close(y.newest))
	y.view.Newest = time.Unix(0, y.newest)
	name := y.now.file.Name()
	before, known := readNewest(y.view.state)
	if err != nil || y.changed == 0 && !y.touched && !y.verify && known && before == y.newest {
		return errors.Join(err, os.Remove(name))
	}
	if err := os.Rename(name, y.view.state); err != nil {
		return err
	}
	if err := os.Remove(y.view.state + ".journal"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// note writes a path that no state tells of into a journal, before it is made: the next
// sync has to know where this one ends early.
func (y *syncer) note(rel string) error {
	if y.old == nil {
		return nil // the next sync begins anew
	}
	if y.journal == nil {
		f, err := os.OpenFile(y.view.state+".journal", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		y.journal = f
	}
	_, err := y.journal.WriteString(strconv.Quote(rel) + "\n")
	return err
}

// recall removes what a sync that ended early put there, where the project hasn't got it
// any more.
func (y *syncer) recall() error {
	text, err := os.ReadFile(y.view.state + ".journal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	view, err := os.OpenRoot(y.view.Dir)
	if err != nil {
		return err
	}
	defer view.Close()
	y.touched = true // so that the journal goes
	var made []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if p, err := strconv.Unquote(lines.Text()); err == nil && filepath.IsLocal(p) {
			made = append(made, p)
		}
	}
	for _, p := range slices.Backward(made) {
		if _, err := os.Lstat(filepath.Join(y.project, p)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			view.Remove(p) //nolint:errcheck // a folder in which something was built stays
		}
	}
	return lines.Err()
}

// dir syncs the paths of one folder, rel in the project. Where it is known the old
// state is at its first path.
func (y *syncer) dir(ctx context.Context, src, dst *os.File, rel string, known bool) error {
	names, err := src.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("listing %s: %w", cmp.Or(rel, "."), cause(err))
	}
	slices.Sort(names)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		old := seenEnd
		if known {
			if old, err = y.old.peek(); err != nil {
				return err
			}
		}
		ours := old.kind != '.'
		switch {
		case len(names) > 0 && (!ours || names[0] <= old.name):
			name := names[0]
			names = names[1:]
			if !ours || name != old.name {
				old = seen{}
			} else {
				y.old.take()
			}
			err = y.entry(ctx, src, dst, path.Join(rel, name), old)
		case ours:
			y.old.take()
			err = y.vanished(dst, old)
		default:
			if known {
				y.old.take()
			}
			y.now.put(seenEnd)
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// vanished takes away what the last sync put into a folder; in the old state it stands
// just before. A folder in which a build made something stays, and so does one that it
// put in a file's place.
func (y *syncer) vanished(dst *os.File, old seen) error {
	there, exists, err := lstat(dst, old.name)
	if err != nil {
		return err
	}
	folder := exists && there.Mode&unix.S_IFMT == unix.S_IFDIR
	if old.kind != 'd' {
		if !exists || folder {
			return nil
		}
		y.changed++
		return unix.Unlinkat(int(dst.Fd()), old.name, 0)
	}
	if !folder {
		return y.old.skip()
	}
	sub, err := openFolder(dst, old.name)
	if err != nil {
		return err
	}
	defer sub.Close()
	for {
		child, err := y.old.peek()
		if err != nil {
			return err
		}
		y.old.take()
		if child.kind == '.' {
			break
		}
		if err := y.vanished(sub, child); err != nil {
			return err
		}
	}
	y.changed++
	if err := unix.Unlinkat(int(dst.Fd()), old.name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	return nil
}
