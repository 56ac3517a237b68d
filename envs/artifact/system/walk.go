package system

import (
	"strings"
	"sync"
)

// maxLinks bounds the links that one path may lead through, as Linux does.
const maxLinks = 40

// kind is what an entry of a system is.
type kind byte

const (
	none kind = iota
	folder
	link
	file
	special // a device, a socket, a pipe
)

// entry is what lies at a path.
type entry struct {
	kind   kind
	target string // of a link
}

// walker follows links as the kernel does, with a system's root as the root. What a
// folder's path leads to is remembered. It is safe for concurrent use.
type walker struct {
	// lstat tells what lies at an absolute path without links on its way.
	lstat func(path string) entry

	mu   sync.RWMutex
	dirs map[string]place
}

// place is where a path leads to; without a kind, nowhere.
type place struct {
	path string // absolute, without links; "" for the root
	kind kind
	hops int
}

// maxRemembered bounds the folders that a walker remembers.
const maxRemembered = 1 << 16

func newWalker(lstat func(path string) entry) *walker {
	return &walker{lstat: lstat, dirs: map[string]place{}}
}

// follow tells where an absolute path leads to.
func (w *walker) follow(path string) (real string, k kind) {
	if len(path) >= maxPath || !strings.HasPrefix(path, "/") || strings.IndexByte(path, 0) >= 0 {
		return "", none
	}
	p := w.find(path, 0)
	if p.path == "" && p.kind == folder {
		return "/", folder
	}
	return p.path, p.kind
}

// find is follow for a path that so many links led to.
func (w *walker) find(path string, hops int) place {
	trimmed := strings.TrimRight(path, "/")
	if trimmed == "" {
		return place{kind: folder, hops: hops}
	}
	slash := strings.LastIndexByte(trimmed, '/')
	parent := w.dir(trimmed[:slash], hops)
	if parent.kind != folder {
		return place{}
	}
	var p place
	switch name := trimmed[slash+1:]; name {
	case ".":
		p = parent
	case "..":
		p = place{path: parent.path[:max(strings.LastIndexByte(parent.path, '/'), 0)], kind: folder, hops: parent.hops}
	default:
		p = w.step(parent, name)
	}
	if len(trimmed) < len(path) && p.kind != folder {
		return place{} // a slash at the end asks for a folder
	}
	return p
}

func (w *walker) step(parent place, name string) place {
	p := parent.path + "/" + name
	e := w.lstat(p)
	if e.kind != link {
		return place{path: p, kind: e.kind, hops: parent.hops}
	}
	hops := parent.hops + 1
	if hops > maxLinks || e.target == "" {
		return place{}
	}
	if strings.HasPrefix(e.target, "/") {
		return w.find(e.target, hops)
	}
	return w.find(parent.path+"/"+e.target, hops)
}

// dir is find for the folders on a path's way.
func (w *walker) dir(path string, hops int) place {
	if strings.Trim(path, "/") == "" {
		return place{kind: folder, hops: hops}
	}
	w.mu.RLock()
	p, ok := w.dirs[path]
	w.mu.RUnlock()
	if ok && p.hops+hops <= maxLinks {
		p.hops += hops
		return p
	}
	p = w.find(path, hops)
	if p.kind == none && hops > 0 {
		return p // it may be the links before it that were too many
	}
	remembered := p
	remembered.hops -= hops
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.dirs) < maxRemembered {
		w.dirs[strings.Clone(path)] = remembered
	}
	return p
}
