package image

import (
	"fmt"
	"path"
	"strings"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Tree is one package's content.
type Tree struct {
	Item     store.Item
	Manifest store.Manifest
}

// Base is what a set of packages composes to. It doesn't depend on their order.
type Base struct {
	Manifest store.Manifest
	// Traversed are the links to folders that some package's path led through. The
	// delta has to carry them: they are what makes the paths of packages resolve the
	// same way everywhere.
	Traversed map[string]bool
	sources   map[string]source // by path, of entries that come from a tree
}

// source says where the content of an entry lies.
type source struct {
	tree  int
	path  string
	owner bool // its owner differs from the tree's: copied, not linked
}

// Where tells where a file of the base lies on disk: in the folder of a tree, by a path
// below it. trees are those that the base was composed of; ok is false for what comes from
// none.
func (b *Base) Where(trees []Tree, p string) (dir, path string, ok bool) {
	s, ok := b.sources[p]
	if !ok {
		return "", "", false
	}
	return trees[s.tree].Item.Root(), s.path, true
}

// Names are the numeric ids of a host's users and groups.
type Names struct{ Users, Groups map[string]uint32 }

// ParseNames reads the ids from passwd(5) and group(5); lines that are malformed
// name nobody.
func ParseNames(passwd, group []byte) Names {
	return Names{Users: ids(passwd), Groups: ids(group)}
}

func ids(file []byte) map[string]uint32 {
	m := map[string]uint32{}
	for line := range strings.SplitSeq(string(file), "\n") {
		f := strings.SplitN(line, ":", 4)
		var id uint32
		if len(f) < 3 {
			continue
		}
		if _, err := fmt.Sscanf(f[2], "%d", &id); err == nil {
			if _, twice := m[f[0]]; !twice {
				m[f[0]] = id
			}
		}
	}
	return m
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// slot is a path of the base while it is being composed.
type slot struct {
	file    snapshot.File
	from    source
	shared  bool // several packages carry it, so none does
	implied bool // a folder
}

// Compose lays trees over each other. links are the links to folders of the host
// (or of its delta), which lead package paths to where they belong. A path that
// two packages carry comes from neither; every folder is root's, 0755: what the
// host has otherwise is the delta's.
func Compose(trees []Tree, links map[string]string, names Names) (*Base, error) {
	r := snapshot.NewLinks(links)
	slots := make(map[string]*slot, 64*len(trees))
	for i, t := range trees {
		for _, f := range t.Manifest {
			dir, err := r.Dir(path.Dir(f.Path))
			if err != nil {
				return nil, err
			}
			if f.Path == "." {
				continue
			}
			if f.Type == snapshot.Dir {
				// A folder may itself be a link on the host: /bin of a merged /usr.
				if dir, err = r.Dir(f.Path); err != nil {
					return nil, err
				}
				imply(slots, dir)
				continue
			}
			place(slots, join(dir, path.Base(f.Path)), i, f, names)
			imply(slots, dir)
		}
	}
	return assemble(slots, r.Traversed()), nil
}

// imply makes sure that a path is a folder, and those above it.
func imply(slots map[string]*slot, dir string) {
	for ; dir != "."; dir = path.Dir(dir) {
		if s := slots[dir]; s != nil && s.implied {
			return
		}
		slots[dir] = &slot{implied: true, file: snapshot.File{Path: dir, Type: snapshot.Dir, Mode: 0o755}}
	}
}

func place(slots map[string]*slot, p string, tree int, f snapshot.File, names Names) {
	if s := slots[p]; s != nil {
		s.shared = true
		return
	}
	s := &slot{from: source{tree: tree, path: f.Path}}
	s.file = f
	s.file.Path = p
	if f.Link != "" {
		s.file.Link = fmt.Sprintf("%d:%s", tree, f.Link) // a group never spans trees
	}
	if id, ok := names.Users[f.User]; ok && f.User != "" {
		s.from.owner = s.from.owner || id != f.UID
		s.file.UID = id
	}
	if id, ok := names.Groups[f.Group]; ok && f.Group != "" {
		s.from.owner = s.from.owner || id != f.GID
		s.file.GID = id
	}
	s.file.User, s.file.Group = "", ""
	slots[p] = s
}

func assemble(slots map[string]*slot, traversed map[string]bool) *Base {
	b := &Base{Traversed: traversed, sources: make(map[string]source, len(slots))}
	b.Manifest = make(store.Manifest, 0, len(slots)+1)
	b.Manifest = append(b.Manifest, snapshot.File{Path: ".", Type: snapshot.Dir, Mode: 0o755})
	for p, s := range slots {
		if s.implied {
			b.Manifest = append(b.Manifest, s.file)
		} else if !s.shared {
			b.Manifest = append(b.Manifest, s.file)
			b.sources[p] = s.from
		}
	}
	b.Manifest.Normalize()
	return b
}
