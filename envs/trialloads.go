package envs

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// loads is what the dynamic loader told of one program that a trial ran.
type loads struct {
	name    string   // as it was called
	started bool     // the loader gave control to it
	opened  []string // what it loaded by dlopen, as it was asked for
}

// The bounds of what is read of a trial's loaders.
const (
	maxLoadFiles = 1000
	maxLoadBytes = 16 << 20 // of one process
	maxOpened    = 1000
)

// loadsDebug is what LD_DEBUG has to be for readLoads.
const loadsDebug = "files"

// readLoads reads what loaders wrote for LD_DEBUG, a file for each process, in the order of
// the processes' numbers.
func readLoads(dir string) (list []loads, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for i, e := range entries {
		if i == maxLoadFiles {
			break
		}
		if !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return list, err
		}
		list = append(list, parseLoads(io.LimitReader(f, maxLoadBytes))...)
		f.Close() //nolint:errcheck // it was only read
	}
	return list, nil
}

// parseLoads reads what the loaders of one process wrote: it may be several programs, one
// after the other. A program that wrote to the same file as well is not misread: its lines
// don't have the form.
func parseLoads(r io.Reader) (list []loads) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), 1<<20)
	var current *loads          // that has control
	mapped := map[string]bool{} // the files that were loaded, without their folders
	asked := ""                 // what dlopen is looking for
	for lines.Scan() {
		_, line, ok := strings.Cut(lines.Text(), ":\t")
		if !ok {
			continue
		}
		switch name, by := splitLoad(line); {
		case strings.HasPrefix(line, "calling init: ") && current == nil && len(list) > 0:
			// All is bound. A program with a start of its own, as Go's are, tells no more.
			current = &list[len(list)-1]
			current.started = true
		case strings.HasPrefix(line, "transferring control: "):
			name := strings.TrimPrefix(line, "transferring control: ")
			if current != nil && current.name == name {
				continue
			}
			i := slices.IndexFunc(list, func(l loads) bool { return l.name == name && !l.started })
			if i < 0 {
				list = append(list, loads{name: name})
				i = len(list) - 1
			}
			list[i].started = true
			current, asked = &list[i], ""
		case by == "generating link map":
			mapped[filepath.Base(name)] = true
			if current != nil && name == asked && len(current.opened) < maxOpened && !slices.Contains(current.opened, name) {
				current.opened = append(current.opened, name)
			}
		case strings.HasPrefix(by, "dynamically loaded by "):
			asked = name
		case strings.HasPrefix(by, "needed by "):
			user := strings.TrimSuffix(strings.TrimPrefix(by, "needed by "), " [0]")
			known := slices.ContainsFunc(list, func(l loads) bool { return l.name == user && !l.started })
			if !known && !mapped[filepath.Base(user)] && (current == nil || current.name != user) {
				list = append(list, loads{name: user})
				current = nil
			}
		}
	}
	return list
}

// splitLoad takes a line apart that begins "file=NAME [0];  WHAT".
func splitLoad(line string) (name, what string) {
	rest, ok := strings.CutPrefix(line, "file=")
	if !ok {
		return "", ""
	}
	name, what, ok = strings.Cut(rest, ";  ")
	if !ok {
		return "", ""
	}
	if i := strings.LastIndex(name, " ["); i >= 0 {
		name = name[:i]
	}
	return name, what
}
