package envs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/runtime"
)

// Reproduced is what came of building once more.
type Reproduced struct {
	Same        bool              `json:"same"`
	Dir         string            `json:"dir"` // the project's, as the second build saw it
	Differences []BuildDifference `json:"differences"`
	View        string            `json:"view,omitempty"` // the second build's, kept where it differs
}

// again is a view beside v, of which nothing is kept: another build of the same.
func (v *View) again() *View {
	return viewAt(filepath.Join(filepath.Dir(v.Dir), "again"), v.store)
}

// elsewhere is a place for a project in a session that nothing of it knows.
func elsewhere(project string) string { return project + "-again" }

// reproduce builds what was built once more: in another folder, with an empty home and
// empty caches, at another time. It says how the artifacts differ, if they do.
func (r *builder) reproduce(ctx context.Context, first Artifacts) (_ *Reproduced, err error) {
	if len(first.Artifacts) == 0 {
		return nil, fmt.Errorf("building for %s again: it brings no artifact to compare", first.Target)
	}
	second := *r
	second.view = r.view.again()
	second.place = elsewhere(r.project.Dir)
	if err := errors.Join(runtime.RemoveAll(filepath.Dir(second.view.Dir)), second.view.make()); err != nil {
		return nil, fmt.Errorf("building for %s again: %w", first.Target, err)
	}
	if second.log, err = createLog(second.view.Log); err != nil {
		return nil, fmt.Errorf("building for %s again: %w", first.Target, err)
	}
	defer func() { err = errors.Join(err, second.log.Close()) }()
	second.opts.Clean = CleanNothing
	// A clock that is written down in seconds has to show that it is another time.
	if err := sleep(ctx, time.Second-time.Since(r.facts.Started)); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{second.sync, second.commands} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	second.phase(PhaseCollecting, "comparing")
	answer := &Reproduced{Dir: second.place, Differences: []BuildDifference{}}
	if answer.Differences, err = r.differences(ctx, &second, first); err != nil {
		return nil, fmt.Errorf("comparing two builds for %s: %w", first.Target, err)
	}
	answer.Same = len(answer.Differences) == 0
	if !answer.Same {
		answer.View = second.view.Dir
		return answer, nil
	}
	return answer, runtime.RemoveAll(filepath.Dir(second.view.Dir))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(d, 0)):
		return nil
	}
}

// differences compares what a build brought with what the second one left.
func (r *builder) differences(ctx context.Context, second *builder, first Artifacts) ([]BuildDifference, error) {
	dist, err := os.OpenRoot(filepath.Join(r.project.Dir, "dist", first.Target))
	if err != nil {
		return nil, err
	}
	defer dist.Close()
	view, err := os.OpenRoot(second.view.Dir)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	found, err := collect(ctx, view, first.Target, r.build.Artifacts, func(string) {})
	var missing *ArtifactError
	if err != nil && (!errors.As(err, &missing) || !missing.Missing) {
		return nil, err
	}
	list := []BuildDifference{}
	for _, a := range first.Artifacts {
		source, there := found[a.Path]
		delete(found, a.Path)
		if !there {
			list = append(list, BuildDifference{Path: a.Path, Offset: -1, Kind: OnlyFirst})
			continue
		}
		d, err := compareFiles(dist, a.Path, view, source, sample{dir: r.project.Dir, begun: r.facts.Started},
			sample{dir: second.place, begun: second.facts.Started})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", a.Path, err)
		}
		if d != nil {
			d.Path = a.Path
			list = append(list, *d)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(found)) {
		list = append(list, BuildDifference{Path: p, Offset: -1, Kind: OnlySecond})
	}
	return list, nil
}

func compareFiles(dirA *os.Root, nameA string, dirB *os.Root, nameB string, a, b sample) (*BuildDifference, error) {
	modes := [2]fs.FileMode{}
	for i, from := range []struct {
		dir  *os.Root
		name string
		to   *sample
	}{{dirA, nameA, &a}, {dirB, nameB, &b}} {
		f, err := from.dir.OpenFile(from.name, os.O_RDONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		fi, err := f.Stat()
		if err != nil {
			return nil, err
		}
		from.to.ReaderAt, from.to.size, modes[i] = f, fi.Size(), fi.Mode().Perm()
	}
	d, err := compare(a, b)
	if d == nil && err == nil && modes[0] != modes[1] {
		d = &BuildDifference{Offset: -1, Kind: DiffersInMode, First: fmt.Sprintf("%04o", modes[0]), Second: fmt.Sprintf("%04o", modes[1])}
	}
	return d, err
}
