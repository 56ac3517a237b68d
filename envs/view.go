package envs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// View is a target's own copy of a project, in which it is built. What a build
// makes stays there for the next one.
type View struct {
	Dir    string    // the copy
	Home   string    // the builds' home folder
	Caches string    // what stead.toml keeps between builds
	Log    string    // what the last build wrote
	Newest time.Time // of the project's files, as the last sync saw them
	state  string    // what it saw
}

// viewDir is the folder for all views of a project in a store.
func viewDir(s *store.Store, project string) string {
	sum := sha256.Sum256([]byte(project))
	return filepath.Join(s.Dir(), "views", hex.EncodeToString(sum[:12]))
}

// OpenView takes the view of a project for a target; no other process has it
// until release is called.
func OpenView(ctx context.Context, s *store.Store, project, target string) (v *View, release func(), err error) {
	if err := CheckName(target); err != nil {
		return nil, nil, err
	}
	if rel, err := filepath.Rel(project, s.Dir()); err == nil && filepath.IsLocal(rel) {
		return nil, nil, &InsideError{Project: project, Store: s.Dir()}
	}
	dir := viewDir(s, project)
	release, err = s.Lock(ctx, "views", filepath.Base(dir)+"-"+target)
	if err != nil {
		return nil, nil, err
	}
	own := filepath.Join(dir, target)
	v = &View{Dir: filepath.Join(own, "files"), Home: filepath.Join(own, "home"), Caches: filepath.Join(own, "caches"),
		Log: filepath.Join(own, "build.log"), state: filepath.Join(own, "synced")}
	if err := v.make(); err != nil {
		release()
		return nil, nil, fmt.Errorf("making the view of %s for %s: %w", project, target, err)
	}
	// For gc, which can't tell from a digest whether the project is still there.
	if err := os.WriteFile(filepath.Join(dir, "project"), []byte(project), 0o600); err != nil {
		release()
		return nil, nil, fmt.Errorf("making the view of %s for %s: %w", project, target, err)
	}
	return v, release, nil
}

func (v *View) make() error {
	return errors.Join(os.MkdirAll(v.Dir, 0o755), os.MkdirAll(v.Home, 0o755))
}

// Clean is what of a view is removed before a build.
type Clean int

// What can be removed.
const (
	CleanNothing Clean = iota
	CleanView          // the copy, and the builds' home
	CleanCaches        // these, and what stead.toml keeps between builds
)

// Clear removes what builds left, and says what that was.
func (v *View) Clear(what Clean) (removed string, err error) {
	size, files, err := diskUse(v.Dir, v.Home)
	removed = fmt.Sprintf("removed its view: %d files, %s", files, Bytes(size))
	dirs := []string{v.Dir, v.Home, v.state} // what a sync saw goes last: without it the next one begins anew
	if what == CleanCaches {
		dirs = append(dirs, v.Caches)
		cached, files, more := diskUse(v.Caches)
		err = errors.Join(err, more)
		removed += fmt.Sprintf("; its caches: %d files, %s", files, Bytes(cached))
	} else if _, none := os.Lstat(v.Caches); none == nil {
		removed += "; its caches stay (--clean=caches removes them, too)"
	}
	for _, dir := range dirs {
		err = errors.Join(err, runtime.RemoveAll(dir))
	}
	if err = errors.Join(err, v.make()); err != nil {
		return removed, fmt.Errorf("removing view %s: %w", v.Dir, err)
	}
	return removed, nil
}

// diskUse counts the files in folders, and what they take.
func diskUse(dirs ...string) (size int64, files int, err error) {
	for _, dir := range dirs {
		walk := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
				return nil
			}
			if err != nil {
				return err
			}
			if fi, err := d.Info(); err == nil {
				size += fi.Size()
				files++
			}
			return nil
		})
		err = errors.Join(err, walk)
	}
	return size, files, err
}

// InsideError says that a project can't be copied because the copy would lie in it.
type InsideError struct{ Project, Store string }

func (e *InsideError) Error() string {
	return fmt.Sprintf("making a view of %s: the store %s lies in it", e.Project, e.Store)
}

// Hint says how to go on.
func (e *InsideError) Hint() string {
	return "stead init in the folder of your sources makes that the project"
}

// synced reports whether a sync was there before.
func (v *View) synced() bool {
	_, err := os.Lstat(v.state)
	return err == nil
}

// Sync brings the view up to date with the project: what changed since the last
// sync is copied in, what vanished from the project leaves. .git and dist stay
// out. It returns how many paths it copied or removed.
func (v *View) Sync(ctx context.Context, project string, progress snapshot.Progress) (changed int, err error) {
	wrap := func(err error) error { return fmt.Errorf("bringing the view of %s up to date: %w", project, err) }
	last, known := readSeen(v.state)
	if !known {
		// Nothing tells what a sync put there: begin anew.
		if err := errors.Join(os.RemoveAll(v.Dir), os.Mkdir(v.Dir, 0o755)); err != nil {
			return 0, wrap(err)
		}
	}
	src, err := os.OpenRoot(project)
	if err != nil {
		return 0, wrap(err)
	}
	defer src.Close()
	dst, err := os.OpenRoot(v.Dir)
	if err != nil {
		return 0, wrap(err)
	}
	defer dst.Close()
	y := &syncer{progress: progress, last: last, children: last.children(), first: !known,
		now: seen{at: time.Now().UnixNano(), entries: make(map[string]seenEntry, len(last.entries))}}
	err = y.dir(ctx, src, dst, ".")
	v.Newest = time.Unix(0, y.newest)
	if err != nil { // so that the next sync knows what this one put there
		for p, e := range last.entries {
			if _, ok := y.now.entries[p]; !ok {
				y.now.entries[p] = e
			}
		}
		y.now.at = last.at
	}
	if y.changed > 0 || y.first || y.touched || err != nil {
		err = errors.Join(err, writeFile(v.state, y.now.encode(), 0o600))
	}
	if err != nil {
		return y.changed, wrap(err)
	}
	return y.changed, nil
}

// syncer does one sync.
type syncer struct {
	progress snapshot.Progress
	last     seen
	children map[string][]string // names in last by folder
	now      seen
	first    bool // nothing was synced before
	touched  bool // a file's change time moved
	changed  int
	newest   int64 // time of a file
}

// dir syncs the entries of one folder, rel in the project.
func (y *syncer) dir(ctx context.Context, src, dst *os.Root, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	here, err := list(src)
	if err != nil {
		return fmt.Errorf("listing %s: %w", rel, cause(err))
	}
	there, err := list(dst)
	if err != nil {
		return fmt.Errorf("listing the copy of %s: %w", rel, cause(err))
	}
	// First what vanished, so that a name that became a link leads nowhere yet.
	for _, name := range y.children[rel] {
		if _, ok := here[name]; !ok {
			if err := y.remove(dst, there, path.Join(rel, name)); err != nil {
				return err
			}
		}
	}
	for name := range here {
		if rel == "." && (name == ".git" || name == "dist") {
			continue
		}
		p := path.Join(rel, name)
		if err := y.entry(ctx, src, dst, there, p); err != nil {
			return fmt.Errorf("%s: %w", p, cause(err))
		}
	}
	return nil
}

func list(r *os.Root) (map[string]fs.FileMode, error) {
	d, err := r.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	names := make(map[string]fs.FileMode, len(entries))
	for _, e := range entries {
		names[e.Name()] = e.Type()
	}
	return names, err
}

// remove takes away what the last sync put at p. A folder in which a build made
// something stays, and so does what a build put in its place.
func (y *syncer) remove(dst *os.Root, there map[string]fs.FileMode, p string) error {
	name := path.Base(p)
	t, ok := there[name]
	if !ok {
		return nil
	}
	if y.last.entries[p].kind != 'd' {
		if t.IsDir() {
			return nil
		}
		y.changed++
		return dst.Remove(name)
	}
	if !t.IsDir() {
		return nil
	}
	sub, err := dst.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	inside, err := list(sub)
	if err != nil {
		return err
	}
	for _, child := range y.children[p] {
		if err := y.remove(sub, inside, path.Join(p, child)); err != nil {
			return err
		}
	}
	y.changed++
	if err := dst.Remove(name); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// entry syncs one path.
func (y *syncer) entry(ctx context.Context, src, dst *os.Root, there map[string]fs.FileMode, p string) error {
	name := path.Base(p)
	fi, err := src.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since it was listed
	}
	if err != nil {
		return err
	}
	e := seenEntry{mode: fi.Mode().Perm()}
	switch fi.Mode().Type() {
	case 0:
		e.kind, e.size, e.mtime = 'f', fi.Size(), fi.ModTime().UnixNano()
		y.newest = max(y.newest, e.mtime)
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			e.ctime = st.Ctim.Nano()
		}
	case fs.ModeDir:
		e.kind = 'd'
	case fs.ModeSymlink:
		e.kind, e.mode, e.mtime = 'l', 0, fi.ModTime().UnixNano()
		if e.target, err = src.Readlink(name); err != nil {
			return err
		}
	default:
		return nil // sockets, fifos and devices are no sources
	}
	t, exists := there[name]
	was, known := y.last.entries[p]
	y.now.entries[p] = e
	if exists && t != fi.Mode().Type() {
		if err := dst.RemoveAll(name); err != nil {
			return err
		}
		exists = false
	}
	if e.kind == 'd' {
		return y.folder(ctx, src, dst, p, exists && known && was == e, exists)
	}
	if exists && known && was == e {
		return nil
	}
	// Only the change time tells of a file that another one of its size and time
	// took the place of; it also moves with no such thing, as on a new owner.
	if was.ctime = e.ctime; exists && known && was == e {
		y.touched = true
		if same, err := sameContent(src, dst, name); same || err != nil {
			return err
		}
	}
	y.changed++
	y.progress.Report(snapshot.Event{Stage: "syncing", Item: p, Done: int64(y.changed), Unit: "files"})
	if exists {
		if err := dst.Remove(name); err != nil {
			return err
		}
	}
	if e.kind == 'l' {
		return dst.Symlink(e.target, name)
	}
	return y.copy(src, dst, name, e)
}

// sameContent reports whether a file is the same in both folders.
func sameContent(src, dst *os.Root, name string) (bool, error) {
	a, err := src.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer a.Close()
	b, err := dst.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer b.Close()
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err1 := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		switch {
		case !bytes.Equal(x[:n], y[:m]):
			return false, nil
		case err1 == io.EOF || err1 == io.ErrUnexpectedEOF:
			return true, nil
		case err1 != nil || err2 != nil:
			return false, errors.Join(err1, err2)
		}
	}
}

func (y *syncer) folder(ctx context.Context, src, dst *os.Root, p string, same, exists bool) error {
	name := path.Base(p)
	if !exists {
		if err := dst.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	if !same {
		y.changed++
		// The owner can always write: the next sync has to.
		if err := dst.Chmod(name, y.now.entries[p].mode|0o700); err != nil {
			return err
		}
	}
	in, err := src.OpenRoot(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := dst.OpenRoot(name)
	if err != nil {
		return err
	}
	defer out.Close()
	return y.dir(ctx, in, out, p)
}

// copy copies a file, as a reflink where the file system can. Its time is the
// source's; but what changed since the last sync is never older than that sync,
// or make would take what was built before from another content for newer.
func (y *syncer) copy(src, dst *os.Root, name string, e seenEntry) error {
	in, err := src.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	if fi, err := in.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(err, errors.New("it changed while it was read"))
	}
	out, err := dst.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		_, err = io.Copy(out, in)
	}
	err = errors.Join(err, out.Chmod(e.mode), out.Close())
	if err != nil {
		return err
	}
	mtime := e.mtime
	if !y.first && mtime <= y.last.at {
		mtime = y.now.at
	}
	return dst.Chtimes(name, time.Time{}, time.Unix(0, mtime))
}

// seen is what a sync saw of a project.
type seen struct {
	at      int64 // when it began, in nanoseconds since 1970
	entries map[string]seenEntry
}

type seenEntry struct {
	kind   byte // f, d, l
	mode   fs.FileMode
	size   int64
	mtime  int64 // nanoseconds since 1970
	ctime  int64 // of files
	target string
}

func (s seen) children() map[string][]string {
	m := map[string][]string{}
	for p := range s.entries {
		dir := path.Dir(p)
		m[dir] = append(m[dir], path.Base(p))
	}
	return m
}

const seenHeader = "stead view 2 "

// encode writes a line for each path: kind, mode, size, mtime, ctime, path, link
// target.
func (s seen) encode() []byte {
	b := strconv.AppendInt([]byte(seenHeader), s.at, 10)
	b = append(b, '\n')
	for p, e := range s.entries {
		b = append(b, e.kind, ' ')
		b = strconv.AppendUint(b, uint64(e.mode), 8)
		b = strconv.AppendInt(append(b, ' '), e.size, 10)
		b = strconv.AppendInt(append(b, ' '), e.mtime, 10)
		b = strconv.AppendInt(append(b, ' '), e.ctime, 10)
		b = strconv.AppendQuote(append(b, ' '), p)
		b = strconv.AppendQuote(append(b, ' '), e.target)
		b = append(b, '\n')
	}
	return b
}

// readSeen reads what encode wrote; ok is false for anything else.
func readSeen(file string) (s seen, ok bool) {
	s.entries = map[string]seenEntry{}
	data, err := os.ReadFile(file)
	if err != nil {
		return s, false
	}
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	at, found := bytes.CutPrefix(head, []byte(seenHeader))
	if s.at, err = strconv.ParseInt(string(at), 10, 64); err != nil || !found {
		return s, false
	}
	for line := range bytes.Lines(rest) {
		p, e, err := parseSeen(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			return seen{}, false
		}
		s.entries[p] = e
	}
	return s, true
}

func parseSeen(line string) (p string, e seenEntry, err error) {
	bad := fmt.Errorf("bad line %q", line)
	f := [5]string{}
	for i := range f {
		j := 0
		for j < len(line) && line[j] != ' ' {
			j++
		}
		if j == len(line) {
			return "", e, bad
		}
		f[i], line = line[:j], line[j+1:]
	}
	if len(f[0]) != 1 {
		return "", e, bad
	}
	e.kind = f[0][0]
	mode, err1 := strconv.ParseUint(f[1], 8, 32)
	size, err2 := strconv.ParseInt(f[2], 10, 64)
	mtime, err3 := strconv.ParseInt(f[3], 10, 64)
	ctime, err4 := strconv.ParseInt(f[4], 10, 64)
	quoted, err5 := strconv.QuotedPrefix(line)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		return "", e, err
	}
	e.mode, e.size, e.mtime, e.ctime = fs.FileMode(mode), size, mtime, ctime
	if len(line) <= len(quoted) {
		return "", e, bad
	}
	p, err1 = strconv.Unquote(quoted)
	e.target, err2 = strconv.Unquote(line[len(quoted)+1:])
	return p, e, errors.Join(err1, err2)
}
