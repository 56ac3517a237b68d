package main

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// laid is a system with one file laid over it.
type laid struct {
	loader.System
	file *artifact.File
}

func (l laid) Find(path string) (system.File, bool) {
	f, ok := l.System.Find(path)
	if path == l.file.Path || f.Path == l.file.Path {
		return system.File{Path: l.file.Path, Executable: true, Script: func() string { return "" },
			Object: func() (*object.Object, error) { return l.file.Object, l.file.Err }}, true
	}
	return f, ok
}

// tallyProblems compares what loaders lack, not verdicts: each library, version and symbol
// that a real one complains of, and stead's own.
func tallyProblems(source, target string, answers []answer, sys loader.System, set *artifact.Set) *tally {
	t := newTally(source, target)
	session := loader.NewSession(sys, [3]uint32{})
	found := make([][]string, len(answers))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, a := range answers {
		file := &set.Files[i]
		program := loader.Program{Path: file.Path, Object: file.Object, Now: a.Now}
		if a.Into != "" {
			program.Into = []string{a.Into}
		}
		if a.Way != noPlace && file.Object != nil {
			g.Go(func() error {
				found[i] = differences(a, session.Over(laid{sys, file}).Load(program))
				return nil
			})
		}
	}
	_ = g.Wait() // none fails
	for i, a := range answers {
		if a.Way != noPlace && set.Files[i].Object != nil {
			t.problems(a, found[i])
		}
	}
	t.lines = t.disagreements
	return t
}

// problems counts one file.
func (t *tally) problems(a answer, found []string) {
	m, _ := a.real()
	t.moments[m]++
	if len(found) == 0 {
		t.outcomes[agreed]++
		return
	}
	t.outcomes[disagreed]++
	more := ""
	if n := len(found) - 5; n > 0 {
		found, more = found[:5], fmt.Sprintf("; %d more", n)
	}
	t.disagreements = append(t.disagreements,
		fmt.Sprintf("disagreed %s (%s): %s%s", a.Path, a.Way, strings.Join(found, "; "), more))
}

// differences are what a real loader lacks and stead's doesn't, and the other way. Where a
// library is missing, the symbols that it would have had are left out.
func differences(a answer, result *loader.Result) (list []string) {
	really, said := complaintsOf(a), problemsOf(result)
	for _, c := range slices.Sorted(maps.Keys(really)) {
		if !said[c] {
			list = append(list, "only really: "+c)
		}
	}
	for _, c := range slices.Sorted(maps.Keys(said)) {
		if !really[c] {
			list = append(list, "only stead: "+c)
		}
	}
	return list
}

func complaintsOf(a answer) map[string]bool {
	set := map[string]bool{}
	if a.Exec != "" {
		set[fmt.Sprintf("%s: %s", load, loader.NoLoader)] = true
	}
	atLoad, atCall := a.worst()
	later := call
	if a.Now {
		later = load
	}
	add := func(m moment, list []complaint) {
		for _, c := range list {
			set[line(m, c.kind, c.name, c.wanted)] = true
		}
	}
	add(load, atLoad)
	add(later, atCall)
	return withoutFollowers(set)
}

func line(m moment, kind, name, version string) string {
	return strings.TrimSpace(fmt.Sprintf("%s: %s %s %s", m, kind, name, version))
}

func problemsOf(result *loader.Result) map[string]bool {
	set := map[string]bool{}
	for _, p := range result.Problems {
		m := load
		if p.Later {
			m = call
		}
		switch {
		case p.Harmless || p.Kind == loader.CopySize || p.Kind == loader.BadRELR: // loaders say nothing of these
		case p.Kind == loader.NoLoader:
			set[line(m, string(p.Kind), "", "")] = true
		case p.Kind == loader.MissingVersion:
			set[line(m, string(p.Kind), p.Version, "")] = true
		case p.Kind == loader.MissingSymbol:
			set[line(m, string(p.Kind), p.Symbol, p.Version)] = true
		default:
			set[line(m, string(p.Kind), p.Library, "")] = true
		}
	}
	return withoutFollowers(set)
}

// withoutFollowers leaves the missing symbols out where a library is missing.
func withoutFollowers(set map[string]bool) map[string]bool {
	for c := range set {
		if strings.Contains(c, string(loader.MissingLibrary)) {
			maps.DeleteFunc(set, func(c string, _ bool) bool { return strings.Contains(c, string(loader.MissingSymbol)) })
			break
		}
	}
	return set
}
