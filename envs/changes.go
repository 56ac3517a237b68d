package envs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/lock"
)

// maxChanges is how many packages of a kind Changes names: it is a screenful, and
// `stead diff` has the rest.
const maxChanges = 12

// Change is a package that two locks don't have alike.
type Change struct {
	Name         string `json:"name"`
	Architecture string `json:"architecture"`
	Before       string `json:"before,omitempty"` // version; "" where it was added
	After        string `json:"after,omitempty"`  // version; "" where it was removed
}

// Compare lists the packages that changed from a to b, by name and architecture.
// A package with one version and another file counts as changed.
func Compare(a, b *lock.Lock) []Change {
	index := func(l *lock.Lock) map[[2]string][]lock.Package {
		m := map[[2]string][]lock.Package{}
		for _, p := range l.Packages {
			k := [2]string{p.Name, p.Architecture}
			m[k] = append(m[k], p)
		}
		return m
	}
	was, is := index(a), index(b)
	var changes []Change
	for k, before := range was {
		after := is[k]
		// Several versions side by side, as kernels of some systems are, are matched
		// in their order.
		for i, p := range before {
			c := Change{Name: k[0], Architecture: k[1], Before: p.Version}
			if i < len(after) {
				if after[i].Version == p.Version && after[i].SHA256 == p.SHA256 {
					continue
				}
				c.After = after[i].Version
			}
			changes = append(changes, c)
		}
	}
	for k, after := range is {
		for _, p := range after[min(len(was[k]), len(after)):] {
			changes = append(changes, Change{Name: k[0], Architecture: k[1], After: p.Version})
		}
	}
	slices.SortFunc(changes, func(x, y Change) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Architecture, y.Architecture),
			cmp.Compare(x.Before, y.Before), cmp.Compare(x.After, y.After))
	})
	return changes
}

// Changes tells people in a screenful what moved from release a to release b.
func Changes(a, b *lock.Lock) string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s@%d, compared with %s@%d\n", b.Release.Target, b.Release.Number, a.Release.Target, a.Release.Number)
	var added, removed, moved []string
	for _, c := range Compare(a, b) {
		switch {
		case c.Before == "":
			added = append(added, c.Name+" "+c.After)
		case c.After == "":
			removed = append(removed, c.Name+" "+c.Before)
		case c.Before == c.After:
			moved = append(moved, c.Name+" "+c.Before+", with another file")
		default:
			moved = append(moved, c.Name+" "+c.Before+" → "+c.After)
		}
	}
	section(&w, "packages added", added)
	section(&w, "packages removed", removed)
	section(&w, "packages moved", moved)
	section(&w, "facts", append(factChanges(a.Host, b.Host), kernelChanges(a.Kernel, b.Kernel)...))
	if a.Delta.SHA256 != b.Delta.SHA256 {
		section(&w, "delta", []string{
			fmt.Sprintf("%s in %d files → %s in %d files", Bytes(a.Delta.Size), a.Delta.Files, Bytes(b.Delta.Size), b.Delta.Files)})
	}
	return w.String()
}

func section(w *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s: %d\n", title, len(lines))
	for i, line := range lines {
		if i == maxChanges {
			fmt.Fprintf(w, "  … and %d more\n", len(lines)-i)
			return
		}
		fmt.Fprintf(w, "  %s\n", line)
	}
}

func factChanges(a, b lock.Host) []string {
	var lines []string
	for i, fact := range Facts(b) {
		before := Facts(a)[i].Value
		if before != fact.Value {
			lines = append(lines, fmt.Sprintf("%s %s → %s", fact.Name, cmp.Or(before, "unknown"), cmp.Or(fact.Value, "unknown")))
		}
	}
	return lines
}

// kernelChanges tells how the system calls of two kernels differ, where both are known.
func kernelChanges(a, b *lock.Kernel) []string {
	calls := func(k *lock.Kernel) []string {
		if k == nil {
			return nil
		}
		return k.SystemCalls
	}
	was, is := calls(a), calls(b)
	switch {
	case slices.Equal(was, is):
		return nil
	case len(was) == 0:
		return []string{fmt.Sprintf("kernel: %d system calls, which weren't known before", len(is))}
	case len(is) == 0:
		return []string{"kernel: its system calls aren't known any more"}
	}
	more, fewer := without(is, was), without(was, is)
	return []string{fmt.Sprintf("kernel: %d system calls more, %d fewer", more, fewer)}
}

// without counts the names of a sorted list that another one hasn't.
func without(list, other []string) int {
	n := 0
	for _, name := range list {
		if _, there := slices.BinarySearch(other, name); !there {
			n++
		}
	}
	return n
}

// Fact is one fact of a host by the name that the lock gives it.
type Fact struct{ Name, Value string }

// Facts lists the facts of a host in the lock's order; what isn't known is "".
func Facts(h lock.Host) []Fact {
	nofile := ""
	if h.NoFile > 0 {
		nofile = fmt.Sprint(h.NoFile)
	}
	return []Fact{
		{"id", h.ID}, {"version", h.Version}, {"codename", h.Codename}, {"architecture", h.Architecture},
		{"libc", h.Libc}, {"kernel", h.Kernel}, {"cpu", h.CPU}, {"umask", h.Umask}, {"locale", h.Locale},
		{"timezone", h.Timezone}, {"nofile", nofile},
	}
}

// Bytes writes a size for people, in powers of 1000 as archives give it.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1000, "kMGTPE"
	for f >= 999.5 {
		f, units = f/1000, units[1:]
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %cB", f, units[0])
	}
	return fmt.Sprintf("%.0f %cB", f, units[0])
}
