package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/object"
)

// oracle are hosts to judge the files of, and hosts to judge for.
type oracle struct {
	sources, targets []host
	cache            string               // a folder for real answers; "" to ask anew
	pick             func(s subject) bool // which files; nil for all
	problems         bool                 // compare what loaders lack, too
	packages         int                  // how many packages of each are installed on each other, too
}

// results are the tallies of all pairs of hosts.
type results struct {
	all      []*tally // of verdicts on each file alone
	problems []*tally // of what loaders lack
	packages []*tally // of verdicts on the files of a package that is installed
}

// ask compares stead's verdicts for each pair of hosts with the real answers, and where
// that is asked for, the problems.
func (o *oracle) ask(ctx context.Context) (r results, err error) {
	dir, err := os.MkdirTemp("", "stead-oracle-")
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir)
	indexed, live := make([]*artifact.Target, len(o.targets)), make([]*artifact.Target, len(o.targets))
	for i, h := range o.targets {
		var end func() error
		if indexed[i], live[i], end, err = targetOf(ctx, h, filepath.Join(dir, h.Name)); err != nil {
			return r, err
		}
		defer end()
	}
	for _, source := range o.sources {
		list, err := subjects(source.Root)
		if err != nil {
			return r, err
		}
		if o.pick != nil {
			list = slices.DeleteFunc(list, func(s subject) bool { return !o.pick(s) })
		}
		set, err := setOf(source, list)
		if err != nil {
			return r, err
		}
		for i, target := range o.targets {
			answers, err := answersOf(ctx, o.cache, source, target, list)
			if err != nil {
				return r, err
			}
			if o.problems {
				r.problems = append(r.problems, tallyProblems(source.Name, target.Name, answers, indexed[i].System, set))
			}
			verdicts, err := verdictsOf(ctx, indexed[i], set)
			if err != nil {
				return r, err
			}
			others, err := verdictsOf(ctx, live[i], set)
			if err != nil {
				return r, err
			}
			r.all = append(r.all, tallyOf(source.Name, target.Name, answers, verdicts, others))
			if o.packages == 0 || source.Name == target.Name {
				continue
			}
			installed, err := o.tallyPackages(ctx, source, target, indexed[i], list)
			if err != nil {
				return r, err
			}
			r.packages = append(r.packages, installed)
		}
	}
	return r, nil
}

// setOf reads the subjects of a host as stead reads what it is to judge. Each is judged
// alone: that is how the loaders are asked.
func setOf(source host, list []subject) (*artifact.Set, error) {
	set := &artifact.Set{Files: make([]artifact.File, len(list)), Alone: true}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, s := range list {
		g.Go(func() (err error) {
			set.Files[i], err = fileOf(filepath.Join(source.Root, s.Path), s.Path)
			return err
		})
	}
	return set, g.Wait()
}

func fileOf(full, path string) (f artifact.File, err error) {
	r, err := os.Open(full)
	if err != nil {
		return f, err
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		return f, err
	}
	f = artifact.File{Name: path, Path: path, Executable: st.Mode()&0o111 != 0}
	f.Object, f.Err = object.Read(r, st.Size())
	var no *object.Error
	switch {
	case errors.As(f.Err, &no):
		f.Head = make([]byte, min(st.Size(), artifact.HeadSize))
		_, err = r.ReadAt(f.Head, 0)
		if err == io.EOF {
			err = nil
		}
	case f.Err != nil:
		err = f.Err
	}
	return f, err
}

// verdictsOf are stead's answers for a set, by path.
func verdictsOf(ctx context.Context, target *artifact.Target, set *artifact.Set) (map[string]artifact.Answer, error) {
	all, err := target.Judge(ctx, set)
	if err != nil {
		return nil, err
	}
	byPath := map[string]artifact.Answer{}
	for _, a := range all {
		byPath[a.File] = a
	}
	return byPath, nil
}
