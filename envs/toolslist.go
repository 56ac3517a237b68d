package envs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// TargetTools are the tools of one target, as stead.lock has them.
type TargetTools struct {
	Target  string        `json:"target"`
	Release int           `json:"release,omitempty"` // 0: stead.lock hasn't got the target
	Wishes  []GrantedWish `json:"wishes"`
	// Packages are all that were added, which wishes name or others need.
	Packages []ToolPackage `json:"packages"`
	Shadows  []string      `json:"shadows,omitempty"`
}

// GrantedWish is a wish and what grants it.
type GrantedWish struct {
	Wish string `json:"wish"`
	ToolPackage
	Base  bool `json:"base,omitempty"`  // the target has it by itself
	Open  bool `json:"open,omitempty"`  // stead.toml asks for it, and nothing was chosen yet
	Stale bool `json:"stale,omitempty"` // stead.toml doesn't ask for it any more
}

// ToolPackage is a package of the tools.
type ToolPackage struct {
	Package      string `json:"package,omitempty"`
	Version      string `json:"version,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	Size         int64  `json:"size,omitempty"` // bytes of the package file
	From         string `json:"from,omitempty"` // the archive: address and suite
}

// chosenFor reads stead.lock for some targets, or for all that stead.toml lists.
func (p *Project) chosenFor(refs []Ref) (projectLock, []Ref, error) {
	l, err := p.readLock()
	if err == nil && len(refs) == 0 {
		refs, err = p.Wanted(nil)
	}
	return l, refs, err
}

// ListTools tells what tools there are for some targets, or for all that stead.toml
// lists.
func (p *Project) ListTools(refs []Ref) ([]TargetTools, error) {
	l, refs, err := p.chosenFor(refs)
	if err != nil {
		return nil, err
	}
	list := []TargetTools{}
	for _, ref := range refs {
		c, _ := l.find(ref.Target)
		t := TargetTools{Target: ref.Target, Release: c.Release, Wishes: []GrantedWish{}, Packages: []ToolPackage{}}
		_, wanted, _ := p.Config.For(ref.Target)
		for _, w := range wanted {
			if !slices.Contains(c.Tools.texts(), w) && !slices.ContainsFunc(t.Wishes, func(g GrantedWish) bool { return g.Wish == w }) {
				t.Wishes = append(t.Wishes, GrantedWish{Wish: w, Open: true})
			}
		}
		if c.Tools != nil {
			t.add(c.Tools, wanted)
		}
		slices.SortFunc(t.Wishes, func(a, b GrantedWish) int { return cmp.Compare(a.Wish, b.Wish) })
		list = append(list, t)
	}
	return list, nil
}

func (t *TargetTools) add(c *ChosenTools, wanted []string) {
	byName := map[string]ToolPackage{}
	for _, k := range c.Packages {
		tool := ToolPackage{k.Name, k.Version, k.Architecture, k.Size, ""}
		for _, a := range c.Archives {
			if a.Name == k.Archive {
				tool.From = a.URI + " " + a.Suite
			}
		}
		byName[k.Name+":"+k.Architecture] = tool
		t.Packages = append(t.Packages, tool)
	}
	for _, w := range c.Wishes {
		g := GrantedWish{Wish: w.Wish, Base: w.Base, Stale: !slices.Contains(wanted, w.Wish)}
		var ok bool
		if g.ToolPackage, ok = byName[w.Package+":"+w.Architecture]; !ok {
			g.ToolPackage = ToolPackage{Package: w.Package, Version: w.Version, Architecture: w.Architecture}
		}
		t.Wishes = append(t.Wishes, g)
	}
	t.Shadows = c.Shadows
}

// Reason says why a package is among the tools of a target.
type Reason struct {
	Target  string `json:"target"`
	Package string `json:"package"`
	Version string `json:"version"`
	// Chains lead from a wish to the package, one for each wish that does.
	Chains []Chain `json:"chains,omitempty"`
	Base   bool    `json:"base,omitempty"` // it isn't added: the target has it by itself
}

// Chain is a wish and the packages that lead on from it, each of which needs the next.
type Chain struct {
	Wish     string   `json:"wish"`
	Packages []string `json:"packages"`
}

// WhyTool tells why a package is there, for each target that has it. Where none has it
// the error is an *UnknownError.
func (p *Project) WhyTool(f *Fleet, refs []Ref, name string) ([]Reason, error) {
	l, refs, err := p.chosenFor(refs)
	if err != nil {
		return nil, err
	}
	reasons, known := []Reason{}, map[string]bool{}
	for _, ref := range refs {
		c, ok := l.find(ref.Target)
		if !ok {
			continue
		}
		if c.Tools != nil {
			for _, k := range c.Tools.Packages {
				known[k.Name] = true
				if k.Name == name || k.Name+":"+k.Architecture == name {
					reasons = append(reasons, Reason{ref.Target, k.Name, k.Version, c.Tools.chains(k), false})
				}
			}
		}
		if slices.ContainsFunc(reasons, func(r Reason) bool { return r.Target == ref.Target }) {
			continue
		}
		base, err := p.baseHas(f, ref.Target, c, name)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, base...)
	}
	if len(reasons) == 0 {
		return nil, &UnknownError{Kind: "tool", Name: name, Of: ProjectLockFile, Known: slices.Sorted(maps.Keys(known))}
	}
	return reasons, nil
}

// baseHas looks for a package in the release itself.
func (p *Project) baseHas(f *Fleet, target string, c chosen, name string) ([]Reason, error) {
	rel, err := p.locked(f, target, c)
	if err != nil {
		return nil, err
	}
	l, err := rel.Lock()
	if err != nil {
		return nil, err
	}
	for _, k := range l.Packages {
		if (k.Name == name || k.Name+":"+k.Architecture == name) && k.State == "" {
			return []Reason{{Target: target, Package: k.Name, Version: k.Version, Base: true}}, nil
		}
	}
	return nil, nil
}

// chains are the shortest ways from wishes to a package.
func (t *ChosenTools) chains(to ChosenTool) []Chain {
	find := func(name string) (ChosenTool, bool) {
		for _, k := range t.Packages {
			if k.Name == name || k.Name+":"+k.Architecture == name {
				return k, true
			}
		}
		return ChosenTool{}, false
	}
	id := func(k ChosenTool) string { return k.Name + ":" + k.Architecture }
	ways := map[string][]string{id(to): {to.Name}}
	var chains []Chain
	for queue := []ChosenTool{to}; len(queue) > 0; queue = queue[1:] {
		k := queue[0]
		for _, w := range t.Wishes {
			if !w.Base && w.Package == k.Name && w.Architecture == k.Architecture {
				chains = append(chains, Chain{w.Wish, ways[id(k)]})
			}
		}
		for _, name := range k.For {
			next, ok := find(name)
			if !ok || ways[id(next)] != nil {
				continue
			}
			ways[id(next)] = append([]string{next.Name}, ways[id(k)]...)
			queue = append(queue, next)
		}
	}
	return chains
}

// withTools is the configuration with other tools.
func (c ProjectConfig) withTools(target string, wishes []string) ProjectConfig {
	if target == "" {
		c.Tools = wishes
		return c
	}
	targets := maps.Clone(c.Target)
	if targets == nil {
		targets = map[string]TargetProject{}
	}
	t := targets[target]
	t.Tools = wishes
	targets[target] = t
	c.Target = targets
	return c
}

// HasTools reports whether the project asks for tools for any target.
func (p *Project) HasTools() bool {
	listed, err := p.Wanted(nil)
	return err == nil && slices.ContainsFunc(listed, func(r Ref) bool {
		_, wishes, _ := p.Config.For(r.Target)
		return len(wishes) > 0
	})
}

// OwnTools are the project's targets that have a list of tools of their own, which the
// project's doesn't reach.
func (p *Project) OwnTools() (targets []string) {
	for name, t := range p.Config.Target {
		if t.Tools != nil {
			targets = append(targets, name)
		}
	}
	slices.Sort(targets)
	return targets
}

// WithWishes is a list of wishes with more at its end.
func WithWishes(list, more []string) ([]string, error) {
	for _, w := range more {
		if err := CheckWish(w); err != nil {
			return nil, err
		}
		if !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list, nil
}

// WithoutWishes is a list of wishes without some that are in it.
func WithoutWishes(list, less []string) ([]string, error) {
	next := []string{}
	for _, w := range less {
		if !slices.Contains(list, w) {
			return nil, &UnknownError{Kind: "tool", Name: w, Of: ProjectFile, Known: list}
		}
	}
	for _, w := range list {
		if !slices.Contains(less, w) {
			next = append(next, w)
		}
	}
	return next, nil
}

// String is a chain for people.
func (c Chain) String() string {
	return fmt.Sprintf("%s (asked for) → %s", c.Wish, strings.Join(c.Packages, " → "))
}
