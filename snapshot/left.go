package snapshot

import (
	"cmp"
	"slices"
	"strings"
)

const (
	maxLeft  = 3000 // rows, whatever the size of the host
	maxNamed = 1000 // that are named one by one: secrets, and what is no file
)

// leftovers sums up what stays behind by folder, the coarser the more folders
// there are. The result doesn't depend on the order in which paths come.
type leftovers struct {
	rows   map[leftKey]*Left
	depth  int // elements of a folder's path
	named  int
	folded bool // what is named one by one is summed up as well
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
	row := Left{Path: f.Path, Class: class, Reason: reason, Files: 1, Bytes: f.Size, named: isNamed(f, class) && !l.folded}
	if !row.named {
		row.Path = l.cut(parent(f.Path))
	}
	l.put(row)
	if row.named {
		if l.named++; l.named > maxNamed {
			l.folded = true
			l.fold(func(row *Left) {
				if row.named {
					row.Path, row.named = l.cut(parent(row.Path)), false
				}
			})
		}
	}
	for len(l.rows) > maxLeft && l.depth > 0 {
		l.depth--
		l.fold(func(row *Left) {
			if !row.named {
				row.Path = l.cut(row.Path)
			}
		})
	}
}

// isNamed reports whether what is left has a row of its own: nobody looks for a device
// or a socket in a sum of files.
func isNamed(f File, class Class) bool {
	return class == Secret || class == State && (f.Type == Socket || f.Type == Char || f.Type == Block)
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
func (l *leftovers) fold(change func(*Left)) {
	old := l.rows
	l.rows = map[leftKey]*Left{}
	for _, row := range old {
		change(row)
		l.put(*row)
	}
}

// sorted are the rows under the paths that may be shown.
func (l *leftovers) sorted(shown func(path string) string) []Left {
	l.fold(func(row *Left) { row.Path = shown(row.Path) })
	var all []Left
	for _, row := range l.rows {
		all = append(all, *row)
	}
	SortLeft(all)
	return all
}

// SortLeft brings rows into their one order.
func SortLeft(all []Left) {
	slices.SortFunc(all, func(a, b Left) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Reason, b.Reason))
	})
}
