package tools

import (
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
)

// parsePackage reads "name[:arch] version; Field: value; …", as the tests write packages.
func parsePackage(t testing.TB, line string) (c Candidate, state string) {
	t.Helper()
	parts := strings.Split(line, ";")
	name, version, ok := strings.Cut(strings.TrimSpace(parts[0]), " ")
	if !ok {
		t.Fatalf("%q has no version", line)
	}
	c.Name, c.Architecture, _ = strings.Cut(name, ":")
	if c.Architecture == "" {
		c.Architecture = "amd64"
	}
	c.Package = lock.Package{Name: c.Name, Architecture: c.Architecture, Version: version}
	fields := map[string]*string{
		"Multi-Arch": &c.MultiArch, "Pre-Depends": &c.PreDepends, "Depends": &c.Depends, "Conflicts": &c.Conflicts,
		"Breaks": &c.Breaks, "Replaces": &c.Replaces, "Provides": &c.Provides, "Recommends": &c.Recommends, "State": &state, "Archive": &c.Archive, "Source": &c.Source,
	}
	for _, part := range parts[1:] {
		field, value, _ := strings.Cut(strings.TrimSpace(part), ": ")
		switch {
		case field == "Rank":
			c.Rank = len(value) // "*", "**"
		case field == "NotAutomatic":
			c.NotAutomatic = true
		case fields[field] != nil:
			*fields[field] = value
		default:
			t.Fatalf("%q has the unknown field %q", line, field)
		}
	}
	return c, state
}

func parseLines(t testing.TB, text string) (list []Candidate, states []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			c, state := parsePackage(t, line)
			list, states = append(list, c), append(states, state)
		}
	}
	return list, states
}

func parseBase(t testing.TB, text string) Base {
	t.Helper()
	b := Base{Name: "acme", Architecture: "amd64", Foreign: []string{"i386"}}
	list, states := parseLines(t, text)
	for i, c := range list {
		b.Packages = append(b.Packages, Installed{Name: c.Name, Version: c.Version, Architecture: c.Architecture,
			State: states[i], Relations: c.Relations})
	}
	return b
}

// parseWishes reads "a, b | c": each wish is its text, too.
func parseWishes(text string) (list []Wish) {
	for one := range strings.SplitSeq(text, ",") {
		w := Wish{Text: strings.TrimSpace(one)}
		for alternative := range strings.SplitSeq(w.Text, "|") {
			w.AnyOf = append(w.AnyOf, strings.TrimSpace(alternative))
		}
		list = append(list, w)
	}
	return list
}

// spelled are the packages of an answer as "name[:arch] version", in its order.
func spelled(a *Answer) string {
	var list []string
	for _, c := range a.Packages {
		name := c.Name
		if c.Architecture != "amd64" {
			name += ":" + c.Architecture
		}
		list = append(list, name+" "+c.Version)
	}
	return strings.Join(list, ", ")
}
