package envs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// UpdateOptions say how stead.lock is renewed.
type UpdateOptions struct {
	// Renew chooses tools anew where those of stead.lock are still right: there may be
	// newer ones.
	Renew bool
	Tools ToolsConfig
}

// Updated is what an update did for one target.
type Updated struct {
	Target string       `json:"target"`
	Before int          `json:"before,omitempty"` // release
	After  int          `json:"after"`
	Tools  int          `json:"tools"` // packages that were added to it
	Change []ToolChange `json:"changed"`
	// Shadows are the release's own paths that the tools have in another form.
	Shadows []string `json:"shadows,omitempty"`
	// Sole counts blobs that only this store has.
	Sole int `json:"sole,omitempty"`
	// Error says why the target keeps what it had, and Hint what to do about it.
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`

	want  string // as stead.toml has the target
	cause error
	err   error
}

// Failures are what was in the way of targets: what is the same for several is said once.
func Failures(done []Updated) (errs []error) {
	for i, u := range done {
		same := func(o Updated) bool { return o.cause != nil && o.cause.Error() == u.cause.Error() }
		if u.cause == nil || slices.ContainsFunc(done[:i], same) {
			continue
		}
		names := []string{u.want}
		for _, o := range done[i+1:] {
			if same(o) {
				names = append(names, o.want)
			}
		}
		errs = append(errs, fmt.Errorf("updating %s: %w", strings.Join(names, ", "), u.cause))
	}
	return errs
}

// ToolChange is a package of the tools that came, went, or has another version.
type ToolChange struct {
	Package      string `json:"package"`
	Architecture string `json:"architecture"`
	Before       string `json:"before,omitempty"` // version
	After        string `json:"after,omitempty"`
}

// updatesAtOnce bounds the targets that are solved for at a time: the indexes of an
// archive take some 60 MB each.
const updatesAtOnce = 2

// Update renews stead.lock: for refs, or for all that stead.toml lists where there
// are none. What stead.toml doesn't list any more leaves. A target that there is no
// answer for keeps what it had, whatever comes of the others; the error joins what was
// in the way, which is told of each, too.
func (p *Project) Update(ctx context.Context, cfg Config, refs []Ref, opts UpdateOptions) (done []Updated, err error) {
	err = p.alone(ctx, cfg, func() (again bool, err error) {
		done, again, err = p.update(ctx, cfg, refs, opts)
		return again, err
	})
	return done, err
}

func (p *Project) update(ctx context.Context, cfg Config, refs []Ref, opts UpdateOptions) (done []Updated, again bool, err error) {
	listed, err := p.Wanted(nil)
	if err != nil {
		return nil, false, err
	}
	if len(refs) == 0 {
		refs = listed
	}
	for _, ref := range refs {
		if !slices.Contains(listed, ref) {
			return nil, false, &UnknownError{Kind: "target", Name: ref.String(), Of: ProjectFile, Known: p.Config.Targets}
		}
	}
	done, next, err := p.choices(ctx, cfg, refs, opts)
	if err != nil {
		return nil, false, err
	}
	err = p.exclusive(func() error {
		if again = p.moved(); again {
			return nil
		}
		return p.writeLock(func(l projectLock) projectLock {
			l = l.without(func(target string) bool {
				return !slices.ContainsFunc(listed, func(r Ref) bool { return r.Target == target })
			})
			for _, c := range next {
				if c != nil {
					l = l.with(*c)
				}
			}
			return l
		})
	})
	if again && err == nil {
		return nil, true, nil
	}
	errs := []error{err}
	for _, u := range done {
		errs = append(errs, u.err)
	}
	return done, again, errors.Join(errs...)
}

// choices chooses for each of refs what stead.lock is to have; nil where nothing could
// be chosen.
func (p *Project) choices(ctx context.Context, cfg Config, refs []Ref, opts UpdateOptions) ([]Updated, []*chosen, error) {
	l, err := p.readLock()
	if err != nil {
		return nil, nil, err
	}
	done, next := make([]Updated, len(refs)), make([]*chosen, len(refs))
	var g errgroup.Group
	g.SetLimit(updatesAtOnce)
	for i, ref := range refs {
		g.Go(func() error {
			old, _ := l.find(ref.Target)
			done[i] = Updated{Target: ref.Target, Before: old.Release, After: old.Release, Change: []ToolChange{}}
			if old.Tools != nil {
				done[i].Tools = len(old.Tools.Packages)
			}
			c, err := p.choose(ctx, cfg, ref, old, opts)
			if err != nil {
				done[i].want, done[i].cause = ref.String(), err
				done[i].err = fmt.Errorf("updating %s: %w", ref, err)
				done[i].Error = done[i].err.Error()
				var hinted interface{ Hint() string }
				if errors.As(err, &hinted) {
					done[i].Hint = hinted.Hint()
				}
				return nil
			}
			next[i] = &c
			done[i].After, done[i].Change = c.Release, compareChosen(old.Tools, c.Tools)
			if done[i].Tools = 0; c.Tools != nil {
				done[i].Tools, done[i].Shadows = len(c.Tools.Packages), c.Tools.Shadows
				done[i].Sole = countSole(cfg, c.Tools)
			}
			return nil
		})
	}
	err = g.Wait()
	return done, next, errors.Join(err, ctx.Err())
}

// choose chooses the release, and the tools where what there is isn't right any more.
func (p *Project) choose(ctx context.Context, cfg Config, ref Ref, old chosen, opts UpdateOptions) (chosen, error) {
	rel, err := cfg.Fleet.Resolve(ref)
	if err != nil {
		return chosen{}, err
	}
	c, err := choice(ref, rel)
	if err != nil {
		return chosen{}, err
	}
	_, wishes, _ := p.Config.For(ref.Target)
	if len(wishes) == 0 {
		return c, nil
	}
	if !opts.Renew && old.Tools != nil && old.Lock == c.Lock && sameWishes(old.Tools.texts(), wishes) {
		c.Tools = old.Tools
		return c, nil
	}
	choose := toolChooser{cfg: cfg, opts: opts.Tools, renew: opts.Renew}
	if old.Tools != nil {
		choose.before, choose.sameBase = old.Tools, old.Lock == c.Lock
	}
	c.Tools, err = choose.choose(ctx, rel, wishes)
	return c, err
}

// countSole counts the tools' blobs that only this store has.
func countSole(cfg Config, t *ChosenTools) (n int) {
	for _, d := range ownToolBlobs(t.Tools()) {
		if cfg.Store.IsSole(d) {
			n++
		}
	}
	return n
}

// compareChosen tells how tools differ.
func compareChosen(before, after *ChosenTools) []ToolChange {
	changes := []ToolChange{}
	type key struct{ name, arch string }
	versions := func(t *ChosenTools) map[key]string {
		m := map[key]string{}
		if t != nil {
			for _, k := range t.Packages {
				m[key{k.Name, k.Architecture}] = k.Version
			}
		}
		return m
	}
	old, now := versions(before), versions(after)
	for k, v := range now {
		if old[k] != v {
			changes = append(changes, ToolChange{k.name, k.arch, old[k], v})
		}
	}
	for k, v := range old {
		if _, stays := now[k]; !stays {
			changes = append(changes, ToolChange{k.name, k.arch, v, ""})
		}
	}
	slices.SortFunc(changes, func(a, b ToolChange) int {
		return cmp.Or(cmp.Compare(a.Package, b.Package), cmp.Compare(a.Architecture, b.Architecture))
	})
	return changes
}
