package oci

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// own gives the user of this machine what a session of another user has made in the
// mounts since then: outside it would belong to a subordinate id, and take root to
// remove. What was there before keeps its owner.
func own(spec runtime.Spec, since time.Time) error {
	uid := os.Getuid()
	if standsOn() != mapped || spec.UID == uint32(uid) {
		return nil
	}
	since = since.Add(-time.Second) // file systems' clocks lag behind
	for _, m := range spec.Mounts {
		if m.ReadOnly {
			continue
		}
		if err := ownBelow(m.Source, since); err != nil {
			return fmt.Errorf("making files in %s yours: %w", m.Source, err)
		}
	}
	return nil
}

func ownBelow(dir string, since time.Time) error {
	top, err := os.Lstat(dir)
	if err != nil || !ours(top) {
		return nil // nobody in the session could make something in it
	}
	if !top.IsDir() {
		if foreign(top, since) {
			return os.Lchown(dir, os.Getuid(), os.Getgid())
		}
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	device := top.Sys().(*syscall.Stat_t).Dev
	return fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it vanished, or isn't ours
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if foreign(info, since) {
			if err := root.Lchown(p, os.Getuid(), os.Getgid()); err != nil {
				return err
			}
		}
		if d.IsDir() && (len(p) > unix.PathMax || !ours(info) || info.Sys().(*syscall.Stat_t).Dev != device) {
			return fs.SkipDir
		}
		return nil
	})
}

// nobody owns all files here that belong to no id of this user namespace.
const nobody = 65534

// ours reports whether an owner is the user, or one of the user's subordinate ids.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid != nobody
}

// foreign reports whether a file has been made or changed since then and belongs to
// one of the user's subordinate ids.
func foreign(info fs.FileInfo, since time.Time) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && ours(info) && st.Uid != uint32(os.Getuid()) && !time.Unix(st.Ctim.Unix()).Before(since)
}
