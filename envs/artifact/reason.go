package artifact

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact/system"
)

func (c *check) add(r Reason) *Reason {
	c.answer.Reasons = append(c.answer.Reasons, r)
	return &c.answer.Reasons[len(c.answer.Reasons)-1]
}

func (c *check) fails(kind, format string, args ...any) *Reason {
	return c.add(Reason{Verdict: Fails, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

func (c *check) unproven(kind, format string, args ...any) *Reason {
	return c.add(Reason{Verdict: Unproven, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

func (c *check) remark(kind, format string, args ...any) *Reason {
	return c.add(Reason{Verdict: Starts, Kind: kind, Text: fmt.Sprintf(format, args...)})
}

// way adds what can be done about it.
func (r *Reason) way(format string, args ...any) *Reason {
	r.Ways = append(r.Ways, fmt.Sprintf(format, args...))
	return r
}

// buildIn says where to build it instead.
func (r *Reason) buildIn(t *Target) *Reason {
	if t.Env == "" {
		return r
	}
	return r.way("build it in %s: stead build %s", t.Env, t.Env)
}

// brought names the package that a file of the target comes from, with its version:
// "libssl1.1 1.1.1w-0+deb11u1"; "" where that isn't known.
func (t *Target) brought(f system.File) string {
	name, _, _ := strings.Cut(f.Package, ":")
	if name == "" {
		return ""
	}
	if p := t.versions[name]; len(p) > 0 && p[0].Version != "" {
		return name + " " + p[0].Version
	}
	return name
}

// inPackage is brought for sentences: " (libc6 2.31-13)".
func (t *Target) inPackage(f system.File) string {
	if p := t.brought(f); p != "" {
		return " (" + p + ")"
	}
	return ""
}

// some lists a few of many names.
func some(names []string) string {
	const most = 3
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) <= most+1 {
		return and(names)
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func and(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
