package envs

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/tools"
	"github.com/stead-env/stead/snapshot"
)

// ToolsConfig says how a project's tools are chosen and made.
type ToolsConfig struct {
	ToolsOptions
	Without bool // leave them out
	Locked  bool // what stead.lock hasn't got as stead.toml asks for it is a *LockedError
	// Make makes the options for installing packages, when it comes to that: who only
	// pulls needs nothing to run scripts with.
	Make func(context.Context) (MakeOptions, error)
}

// toolChooser chooses tools for one release.
type toolChooser struct {
	cfg      Config
	opts     ToolsConfig
	before   *ChosenTools // nil for none
	sameBase bool         // before was made for this very release
	renew    bool         // what there was before has no preference
}

// choose finds the packages that grant all wishes and makes the layer of them.
func (c *toolChooser) choose(ctx context.Context, rel Release, wishes []string) (*ChosenTools, error) {
	if err := CheckRuns(rel); err != nil {
		return nil, err
	}
	root, err := Pull(ctx, c.cfg, rel)
	if err != nil {
		return nil, err
	}
	letGo, err := Hold(root)
	if err != nil {
		return nil, err
	}
	defer letGo()
	c.cfg.Progress.Report(snapshot.Event{Stage: "solving", Item: rel.Target})
	answer, archives, err := c.solve(ctx, root, wishes)
	if err != nil {
		return nil, err
	}
	chosen := chosenOf(answer)
	if len(chosen.Packages) == 0 {
		return chosen, nil
	}
	chosen.Archives = usedArchives(archives, chosen.packages())
	if c.sameBase && slices.EqualFunc(c.before.packages(), chosen.packages(), samePackage) {
		// What their scripts make is known.
		chosen.Archives, chosen.Delta, chosen.Digest, chosen.Shadows = c.before.Archives, c.before.Delta, c.before.Digest, c.before.Shadows
		for i := range chosen.Packages {
			chosen.Packages[i].Package = c.before.Packages[i].Package
		}
		return chosen, nil
	}
	return chosen, c.make(ctx, root, chosen)
}

// make installs what was chosen, once.
func (c *toolChooser) make(ctx context.Context, root *Root, chosen *ChosenTools) error {
	if c.opts.Make == nil {
		return errors.New("making tools: there is nothing to run scripts with")
	}
	opts, err := c.opts.Make(ctx)
	if err != nil {
		return err
	}
	made, err := MakeTools(ctx, c.cfg, root, chosen.packages(), chosen.Archives, opts)
	if err != nil {
		return err
	}
	chosen.Delta, chosen.Digest, chosen.Shadows = made.Delta, made.Digest, made.Shadows
	pinned := map[string]lock.Package{}
	for _, p := range made.Packages {
		pinned[p.Name+" "+p.Version+" "+p.Architecture] = p
	}
	for i, k := range chosen.Packages {
		p, ok := pinned[k.Name+" "+k.Version+" "+k.Architecture]
		if !ok {
			return fmt.Errorf("making tools: %s %s wasn't installed", k.Name, k.Version)
		}
		chosen.Packages[i].Package = p
	}
	chosen.Archives = usedArchives(made.Archives, made.Packages)
	return nil
}

// chosenOf is an answer as stead.lock has it.
func chosenOf(answer *tools.Answer) *ChosenTools {
	t := &ChosenTools{}
	for _, g := range answer.Granted {
		t.Wishes = append(t.Wishes, ChosenWish{g.Wish, g.Name, g.Version, g.Architecture, g.Base})
	}
	for _, k := range answer.Packages {
		t.Packages = append(t.Packages, ChosenTool{k.Package, k.For})
	}
	slices.SortFunc(t.Packages, compareTools)
	return t
}

func samePackage(a, b lock.Package) bool {
	return a.Name == b.Name && a.Version == b.Version && a.Architecture == b.Architecture && a.SHA256 == b.SHA256
}

// usedArchives are those of archives that packages name.
func usedArchives(archives []lock.Archive, packages []lock.Package) (used []lock.Archive) {
	for _, a := range archives {
		if slices.ContainsFunc(packages, func(p lock.Package) bool { return p.Archive == a.Name }) {
			used = append(used, a)
		}
	}
	return used
}
