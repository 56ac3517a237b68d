package snapshot

import (
	"cmp"
	"slices"
	"strings"
)

const (
	maxLeft    = 3000 // rows, whatever the size of the host
	maxSecrets = 1000 // that are named one by one
)

// leftovers sums up what stays behind by folder, the coarser the more folders
// there are. The result doesn't depend on the order in which paths come.
type leftovers struct {
	rows    map[leftKey]*Left
	depth   int // elements of a folder's path
	secrets int
	folded  bool // secrets are summed up as well
}

type leftKey struct {
	path   string
	class  Class
	reason string
}

func newLeftovers() *leftovers {
	return &leftovers{rows: map[leftKey]*Left{}, depth: 3}
}

func (l *leftovers) add(f File, class Class, reason string) {
	if f.Type == Dir {
		return
	}
	l.put(Left{l.place(f.Path, class), class, reason, 1, f.Size})
	if class == Secret && !l.folded {
		if l.secrets++; l.secrets > maxSecrets {
			l.fold(func(row Left) string {
				if row.Class == Secret {
					return l.cut(parent(row.Path))
				}
				return row.Path
			})
			l.folded = true
		}
	}
	for len(l.rows) > maxLeft && l.depth > 0 {
		l.depth--
		l.fold(func(row Left) string {
			if row.Class == Secret && !l.folded {
				return row.Path
			}
			return l.cut(row.Path)
		})
	}
}

// place is where a path is counted: a secret at itself, anything else at its
// folder or one further up.
func (l *leftovers) place(path string, class Class) string {
	if class == Secret && !l.folded {
		return path
	}
	return l.cut(parent(path))
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}

// cut shortens a folder's path to the depth at hand.
func (l *leftovers) cut(folder string) string {
	if l.depth == 0 {
		return "."
	}
	for i, depth := 0, 0; i < len(folder); i++ {
		if folder[i] == '/' {
			if depth++; depth == l.depth {
				return folder[:i]
			}
		}
	}
	return folder
}

func (l *leftovers) put(row Left) {
	k := leftKey{row.Path, row.Class, row.Reason}
	if sum := l.rows[k]; sum != nil {
		sum.Files += row.Files
		sum.Bytes += row.Bytes
		return
	}
	l.rows[k] = &row
}

// fold sums the rows up again under other paths.
func (l *leftovers) fold(path func(Left) string) {
	old := l.rows
	l.rows = map[leftKey]*Left{}
	for _, row := range old {
		row.Path = path(*row)
		l.put(*row)
	}
}

func (l *leftovers) sorted() []Left {
	var all []Left
	for _, row := range l.rows {
		all = append(all, *row)
	}
	slices.SortFunc(all, func(a, b Left) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}
