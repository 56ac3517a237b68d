package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/archive"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/envs/tools"
	"github.com/stead-env/stead/snapshot"
)

// NoToolsError says that nothing can be added to a release.
type NoToolsError struct {
	Release Release
	Why     string
}

func (e *NoToolsError) Error() string { return fmt.Sprintf("adding tools to %s: %s", e.Release, e.Why) }

// NoShipperError says that no package of the archives has what a wish asks for.
type NoShipperError struct{ Wish string }

func (e *NoShipperError) Error() string {
	return fmt.Sprintf("choosing tools for %s: no package in the archives of the target brings that", e.Wish)
}

// Hint says how to go on.
func (e *NoShipperError) Hint() string {
	if name, ok := strings.CutPrefix(e.Wish, wishPkgConfig+":"); ok {
		return "a module is called like its .pc file; or ask for a package by its name, such as lib" + strings.TrimPrefix(name, "lib") + "-dev"
	}
	return "ask for a package by its name: what a package's scripts make, such as alternatives (/usr/bin/cc), is in no list"
}

// solve finds the packages that grant all wishes, and the archives that they are from.
// What was chosen before stays as far as it still fits.
func (c *toolChooser) solve(ctx context.Context, root *Root, texts []string) (*tools.Answer, []lock.Archive, error) {
	l, err := root.Release.Lock()
	if err != nil {
		return nil, nil, err
	}
	base, err := c.base(ctx, root)
	if err != nil {
		return nil, nil, err
	}
	opts := c.opts.ToolsOptions
	if c.before != nil {
		opts.Known = append(slices.Clone(opts.Known), c.before.Tools())
	}
	base.Name = root.Release.Target
	wishes, err := c.wishes(ctx, root, l, base, opts, texts)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, w := range wishes {
		for _, n := range w.AnyOf {
			names = append(names, bareName(n))
		}
	}
	if len(names) == 0 { // what has names is offered, and without any everything
		answer, err := tools.Solve(ctx, base, nil, wishes)
		return answer, nil, err
	}
	s := &solving{c, root, l, base, opts}
	answer, archives, err := s.among(ctx, wishes, names)
	if err != nil {
		return nil, nil, err
	}
	return s.recommended(ctx, answer, archives, wishes, names)
}

// solving is what the search for one release's tools goes by.
type solving struct {
	*toolChooser
	root *Root
	lock *lock.Lock
	base tools.Base
	opts ToolsOptions
}

// recommended adds what is recommended by the packages that were asked for, as far as it
// fits.
func (s *solving) recommended(ctx context.Context, answer *tools.Answer, archives []lock.Archive, wishes []tools.Wish, names []string) (*tools.Answer, []lock.Archive, error) {
	more := answer.Recommended(s.base)
	if len(more) == 0 {
		return answer, archives, nil
	}
	names = slices.Clone(names)
	for _, w := range more {
		names = append(names, w.AnyOf...)
	}
	return s.among(ctx, slices.Concat(wishes, more), names)
}

// among solves with what archives have of those names. What was chosen before stays as far
// as it still fits.
func (s *solving) among(ctx context.Context, wishes []tools.Wish, names []string) (*tools.Answer, []lock.Archive, error) {
	c, root, l, base, opts := s.toolChooser, s.root, s.lock, s.base, s.opts
	offers, err := offersFor(ctx, c.cfg, opts, root, l, base, names)
	if err != nil {
		return nil, nil, err
	}
	c.tell(offers.Problems, false)
	if c.before != nil && !c.renew {
		answer, err := tools.Solve(ctx, base, c.keep(offers.Candidates), wishes)
		if !errors.As(err, new(*tools.UnsolvableError)) {
			return answer, offers.Archives, err
		}
	}
	answer, err := tools.Solve(ctx, base, offers.Candidates, wishes)
	if errors.As(err, new(*tools.UnsolvableError)) {
		c.tell(offers.Problems, true)
		return nil, nil, c.inTheWay(ctx, root, l, base, wishes, err, len(offers.Candidates))
	}
	return answer, offers.Archives, err
}

// inTheWay finds out more of why nothing fits: names that may have been meant, and what
// would do on another base, are found in all that archives have, where that is at hand: it
// is more than was offered.
func (c *toolChooser) inTheWay(ctx context.Context, root *Root, l *lock.Lock, base tools.Base, wishes []tools.Wish, why error, offered int) error {
	opts := c.opts.ToolsOptions
	opts.Offline = true // it was all fetched just now
	all, err := offersFor(ctx, c.cfg, opts, root, l, base, nil)
	if err != nil || len(all.Candidates) <= offered {
		return why
	}
	if _, err = tools.Solve(ctx, base, all.Candidates, wishes); errors.As(err, new(*tools.UnsolvableError)) {
		return err
	}
	return why
}

// base is what is installed in a root.
func (c *toolChooser) base(ctx context.Context, root *Root) (tools.Base, error) {
	host, err := c.opts.OpenRoot(root.Path)
	if err != nil {
		return tools.Base{}, err
	}
	defer closeHost(host)
	base, err := toolsBase(ctx, host, c.opts.Readers)
	if err != nil {
		return base, fmt.Errorf("reading the packages of %s: %w", root.Release, err)
	}
	view, err := viewRoot(root.Path, "")
	if err != nil {
		return base, fmt.Errorf("reading the packages of %s: %w", root.Release, err)
	}
	defer view.close()
	if !view.program("/usr/bin/dpkg") {
		return base, &NoToolsError{root.Release, "it has no dpkg of its own, which would install them"}
	}
	return base, nil
}

// wishes are what stead.toml's mean there: a path or module that the root has is granted,
// of another one the archives tell which packages bring it.
func (c *toolChooser) wishes(ctx context.Context, root *Root, l *lock.Lock, base tools.Base, opts ToolsOptions, texts []string) ([]tools.Wish, error) {
	parsed, err := parseWishes(texts)
	if err != nil {
		return nil, err
	}
	view, err := viewRoot(root.Path, "")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", root.Release, err)
	}
	defer view.close()
	list := make([]tools.Wish, len(parsed))
	var paths []string // that are looked for
	for i, w := range parsed {
		list[i] = tools.Wish{Text: w.text}
		switch places := w.places(base.Architecture); {
		case w.kind == wishPackage:
			list[i].AnyOf = []string{w.name}
		case hasAny(view, places):
			list[i].There = true
		default:
			paths = append(paths, places...)
		}
	}
	if len(paths) == 0 {
		return list, nil
	}
	shipping, err := c.shipping(ctx, root, l, base, opts, paths)
	if err != nil {
		return nil, err
	}
	for i, w := range parsed {
		if len(list[i].AnyOf) > 0 || list[i].There {
			continue
		}
		for _, p := range w.places(base.Architecture) {
			list[i].AnyOf = append(list[i].AnyOf, shipping[p]...)
		}
		if list[i].AnyOf = shippers(list[i].AnyOf, path.Base(w.name)); len(list[i].AnyOf) == 0 {
			return nil, &NoShipperError{w.text}
		}
	}
	return list, nil
}

// shipping tells which packages bring paths.
func (c *toolChooser) shipping(ctx context.Context, root *Root, l *lock.Lock, base tools.Base, opts ToolsOptions, paths []string) (map[string][]string, error) {
	c.cfg.Progress.Report(snapshot.Event{Stage: "searching", Item: paths[0]})
	found, err := shippingFor(ctx, c.cfg, opts, root, l, base, paths)
	if err != nil {
		return nil, err
	}
	c.tell(found.Problems, false)
	return found.Packages, nil
}

// tell says which archives could not be read; those of the past matter where nothing fits.
func (c *toolChooser) tell(problems []*archive.Problem, past bool) {
	for _, p := range problems {
		if p.Past == past {
			c.cfg.Progress.Note("choosing tools", p.Error())
		}
	}
}

// shippers are packages, each once, of which any will do. The one that is called like
// what is looked for comes first: cmake, before others with a program of that name.
func shippers(packages []string, like string) []string {
	slices.SortFunc(packages, func(a, b string) int {
		if (a == like) != (b == like) {
			return map[bool]int{true: -1, false: 1}[a == like]
		}
		return strings.Compare(a, b)
	})
	return slices.Compact(packages)
}

// hasAny reports whether one of some paths, without the leading slash each, is in a root.
func hasAny(view rootView, paths []string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		_, info := view.find("/" + p)
		return info != nil && info.Mode().Type() != fs.ModeDir
	})
}

// bareName is the package of a wish such as libfoo-dev:i386=1.0.
func bareName(wish string) string {
	name, _, _ := strings.Cut(wish, "=")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// keep are the candidates without other versions of what was chosen before.
func (c *toolChooser) keep(candidates []tools.Candidate) []tools.Candidate {
	type key struct{ name, arch string }
	had, offered := map[key]string{}, map[key]bool{}
	for _, k := range c.before.Packages {
		had[key{k.Name, k.Architecture}] = k.Version
	}
	for _, o := range candidates {
		k := key{o.Name, o.Architecture}
		offered[k] = offered[k] || had[k] == o.Version
	}
	var kept []tools.Candidate
	for _, o := range candidates {
		if k := (key{o.Name, o.Architecture}); !offered[k] || had[k] == o.Version {
			kept = append(kept, o)
		}
	}
	return kept
}
