package envs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime"
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
	store  string    // which may lie in the project, as where CI systems cache it
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
	dir := viewDir(s, project)
	release, err = s.Lock(ctx, "views", filepath.Base(dir)+"-"+target)
	if err != nil {
		return nil, nil, err
	}
	v = viewAt(filepath.Join(dir, target), s.Dir())
	if err := v.make(); err != nil {
		release()
		return nil, nil, fmt.Errorf("making the view of %s for %s: %w", project, target, err)
	}
	if err := noteProject(s, project); err != nil {
		release()
		return nil, nil, err
	}
	return v, release, nil
}

func viewAt(own, store string) *View {
	return &View{Dir: filepath.Join(own, "files"), Home: filepath.Join(own, "home"), Caches: filepath.Join(own, "caches"),
		Log: filepath.Join(own, "build.log"), state: filepath.Join(own, "synced"), store: store}
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

// noteProject tells gc of a project: it can't tell from a digest whether one is still
// there, and what its stead.lock needs.
func noteProject(s *store.Store, project string) error {
	name := filepath.Join(viewDir(s, project), "project")
	if known, err := os.ReadFile(name); err == nil && string(known) == project {
		return nil
	}
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = writeFile(name, []byte(project), 0o600)
	}
	if err != nil {
		return fmt.Errorf("noting project %s: %w", project, err)
	}
	return nil
}

// synced reports whether a sync was there before.
func (v *View) synced() bool {
	newest, found := readNewest(v.state)
	v.Newest = time.Unix(0, newest)
	return found
}
