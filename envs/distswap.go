package envs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// dist is a target's folder for artifacts: the one that is there, the next, and the last
// while the next takes its place.
type dist struct {
	project           *os.Root
	next, old, target string
	owner             ids
}

func newDist(project *os.Root, target string) *dist {
	at := func(name string) string { return path.Join("dist", name) }
	return &dist{project: project, next: at("." + target + ".new"), old: at("." + target + ".old"), target: at(target), owner: invoker()}
}

// prepare makes the next folder. Where a swap ended early, it is brought to its end.
func (d *dist) prepare(note func(string)) error {
	if err := makeDir(d.project, "dist", d.owner); err != nil {
		return err
	}
	if err := d.project.RemoveAll(d.next); err != nil {
		return err
	}
	if fi, err := d.project.Lstat(d.old); err == nil && !fi.IsDir() {
		if err := d.project.RemoveAll(d.old); err != nil { // a foreign project's link, maybe: what it leads to stays
			return err
		}
	} else if err == nil {
		if _, err := d.project.Lstat(d.target); errors.Is(err, fs.ErrNotExist) {
			if err := d.project.Rename(d.old, d.target); err != nil {
				return err
			}
		} else if err := d.leave(note); err != nil {
			return err
		}
	}
	return errors.Join(d.project.Mkdir(d.next, 0o755), d.owner.take(d.project, d.next))
}

// swap puts the next folder into place.
func (d *dist) swap(note func(string)) error {
	if err := d.project.Rename(d.target, d.old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.project.Rename(d.next, d.target); err != nil {
		return err
	}
	return d.leave(note)
}

// leave moves what people put into the old folder to the new one, and removes the rest.
func (d *dist) leave(note func(string)) error {
	brought, moved := d.brought(), leftOut{}
	err := fs.WalkDir(d.project.FS(), d.old, func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there was no build before
		}
		whole := !utf8.ValidString(p) // fs.FS can't look into it
		if err != nil || e.IsDir() && !whole {
			return err
		}
		rel, err := filepath.Rel(d.old, p)
		if err != nil || brought[rel] {
			return err
		}
		if err := d.move(rel, &moved); err != nil || !e.IsDir() {
			return err
		}
		return fs.SkipDir
	})
	if err != nil {
		return fmt.Errorf("moving what was put there: %w", err)
	}
	if moved.count > 0 {
		note(fmt.Sprintf("artifacts took the names of files that no build brought: %s", &moved))
	}
	return d.project.RemoveAll(d.old)
}

// maxList bounds what is read of an artifacts.json.
const maxList = 64 << 20

// brought is what the old folder's build put there, by its own list.
func (d *dist) brought() map[string]bool {
	names := map[string]bool{artifactsFile: true}
	f, err := d.project.OpenFile(path.Join(d.old, artifactsFile), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return names
	}
	defer f.Close()
	var list Artifacts
	if json.NewDecoder(io.LimitReader(f, maxList)).Decode(&list) != nil {
		return names
	}
	for _, a := range list.Artifacts {
		names[a.Path] = true
	}
	for _, e := range list.Evidence {
		names[e.Path] = true
	}
	return names
}

// move moves a file from the old folder to the new one, by its own name if that is free.
func (d *dist) move(rel string, renamed *leftOut) error {
	at, parts := d.target, strings.Split(rel, "/")
	for i, part := range parts {
		last := i == len(parts)-1
		for {
			fi, err := d.project.Lstat(path.Join(at, part))
			taken := err == nil
			if taken && !last && fi.IsDir() {
				break
			}
			if !taken && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if last && part != parts[i] && !taken { // it may be that of a file still to come
				_, err := d.project.Lstat(path.Join(d.old, path.Dir(rel), part))
				taken = err == nil
			}
			if !taken {
				break
			}
			part += "~"
		}
		at = path.Join(at, part)
		if last {
			break
		}
		if err := makeDir(d.project, at, d.owner); err != nil {
			return err
		}
	}
	if was := path.Join(d.target, rel); at != was {
		renamed.add(was + " is now " + at)
	}
	return d.project.Rename(path.Join(d.old, rel), at)
}
