package envs

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/snapshot"
)

// Judged is a system that is judged for.
type Judged struct {
	CheckedTarget
	of     string  // the target's name; "" for a host
	rel    Release // zero for a host
	root   string  // the folder that it is on this machine; "" for none
	target *artifact.Target
	// named is the target once more, with its packages, which take time to find: it is asked
	// where something doesn't start, or depends on packages. nil where target has them.
	named func() *artifact.Target
	// unknown says why nothing is known of the system; nil where something is.
	unknown error
}

// Chosen are the releases that refs name: those of stead.lock, else, unless locked, what
// the fleet has. It writes nothing.
func (p *Project) Chosen(f *Fleet, refs []Ref, locked bool) ([]Release, error) {
	var list []Release
	for _, ref := range refs {
		rel, err := p.chosen(f, ref, locked)
		if err != nil {
			return nil, err
		}
		list = append(list, rel)
	}
	return list, nil
}

// JudgeRelease opens a release to judge for, by its lock and its index alone. One whose
// index can't be had is known to be there, and all answers for it are unproven.
func JudgeRelease(ctx context.Context, cfg Config, rel Release, opts IndexOptions) (*Judged, error) {
	identity, err := rel.Identity()
	if err != nil {
		return nil, err
	}
	index, header, err := OpenIndex(ctx, cfg, rel, opts)
	if err != nil && (ctx.Err() != nil || header.Version == 0) {
		return nil, err
	}
	j := &Judged{of: rel.Target, rel: rel, CheckedTarget: CheckedTarget{Name: rel.String(), Release: rel.Number, Lock: identity}.with(header.Host)}
	if err != nil {
		j.unknown = err
		return j, nil
	}
	j.target = &artifact.Target{Name: j.Name, Env: rel.Target, System: index, Host: header.Host, Facts: index.Facts()}
	return j, nil
}

// JudgeHost opens a host to judge for, whose files are read for it. Options are as for
// IndexHost.
func JudgeHost(ctx context.Context, cfg Config, host snapshot.Host, opts SnapshotOptions) (*Judged, error) {
	index, facts, err := IndexHost(ctx, cfg, host, opts)
	if err != nil {
		return nil, err
	}
	return &Judged{CheckedTarget: CheckedTarget{Name: opts.Address}.with(facts),
		target: &artifact.Target{Name: opts.Address, System: index, Host: facts, Facts: index.Facts()}}, nil
}

// CheckOptions say where what is judged lies, and who is asked for what is missing.
type CheckOptions struct {
	At string // see ArtifactOptions
	// Archives is for asking the targets' own archives for what is missing; nil asks none.
	Archives *ToolsOptions
	Project  *Project // whose stead.toml tells of its artifacts; nil for none
}

// Check judges files, folders and archives for systems. On the machine that this runs on
// files lie where they are, as do those in the folder of a root that is judged for. Where
// something is missing, the fleet is looked through for it.
func Check(ctx context.Context, cfg Config, systems []*Judged, names []string, opts CheckOptions) (*Checked, error) {
	read := map[string][]*artifact.Set{}
	for _, j := range systems {
		if opts.At != "" {
			j.root = ""
		}
		if read[j.root] != nil {
			continue
		}
		sets, err := ReadArtifacts(ctx, names, ArtifactOptions{At: opts.At, Root: j.root, Progress: cfg.Progress})
		if err != nil {
			return nil, err
		}
		recollect(sets)
		read[j.root] = sets
	}
	cfg.Progress.Report(snapshot.Event{Stage: "judging"})
	of := func(j *Judged) (sets []*artifact.Set) {
		for _, set := range read[j.root] {
			if opts.Project != nil {
				set = opts.Project.declared(set, j.of)
			}
			sets = append(sets, set)
		}
		return sets
	}
	c, err := judgeAll(ctx, systems, of)
	if err == nil && len(c.Answers) == 0 {
		err = fmt.Errorf("checking %s: there is no program, library or script", strings.Join(names, ", "))
	}
	if err == nil {
		for _, sets := range read {
			notGiven(sets, c.Answers)
		}
		err = c.findWays(ctx, cfg, systems, read[""], opts.Archives)
	}
	return c, err
}

// findWays adds to what the fleet's releases lack where else it is.
func (c *Checked) findWays(ctx context.Context, cfg Config, systems []*Judged, sets []*artifact.Set, archives *ToolsOptions) error {
	var releases []Release
	for _, j := range systems {
		if j.rel.Number > 0 {
			releases = append(releases, j.rel)
		}
	}
	if len(releases) == 0 || cfg.Fleet == nil {
		return nil
	}
	return FindWays(ctx, cfg, releases, sets, c.Answers, archives)
}

// judgeAll judges the sets that there are for each of some systems.
func judgeAll(ctx context.Context, systems []*Judged, of func(*Judged) []*artifact.Set) (*Checked, error) {
	answers := make([][][]artifact.Answer, len(systems))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(goruntime.GOMAXPROCS(0))
	for i, j := range systems {
		sets := of(j)
		answers[i] = make([][]artifact.Answer, len(sets))
		for k, set := range sets {
			g.Go(func() (err error) {
				answers[i][k], err = j.judge(gctx, set)
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c := &Checked{Version: CheckedVersion, Answers: []artifact.Answer{}}
	for i, j := range systems {
		c.Add(j.CheckedTarget, slices.Concat(answers[i]...))
	}
	return c, nil
}

func (j *Judged) judge(ctx context.Context, set *artifact.Set) ([]artifact.Answer, error) {
	if j.unknown != nil {
		return j.nothingKnown(set), nil
	}
	if j.named == nil || len(set.Packages) == 0 {
		answers, err := j.target.Judge(ctx, set)
		if err != nil || j.named == nil || worst(answers) == artifact.Starts {
			return answers, err
		}
	}
	return j.named().Judge(ctx, set)
}

// worst is the verdict on all of some files.
func worst(answers []artifact.Answer) artifact.Verdict {
	verdict := artifact.Starts
	for _, a := range answers {
		if a.Verdict == artifact.Fails || a.Verdict == artifact.Unproven && verdict == artifact.Starts {
			verdict = a.Verdict
		}
	}
	return verdict
}

// nothingKnown answers for each file that might start somewhere.
func (j *Judged) nothingKnown(set *artifact.Set) []artifact.Answer {
	reason := artifact.Reason{Verdict: artifact.Unproven, Kind: "index",
		Text: fmt.Sprintf("what %s has isn't known: %v", j.Name, j.unknown)}
	var hinted interface{ Hint() string }
	if errors.As(j.unknown, &hinted) && hinted.Hint() != "" {
		reason.Ways = []string{hinted.Hint()}
	}
	var answers []artifact.Answer
	add := func(name, kind string) {
		answers = append(answers, artifact.Answer{Target: j.Name, File: name, Kind: kind, Verdict: artifact.Unproven,
			Reasons: []artifact.Reason{reason}})
	}
	for _, f := range set.Files {
		if f.Link == "" && !f.Dir && (f.Asked || f.Object != nil || f.Err != nil || f.Executable) {
			add(f.Name, artifact.Other)
		}
	}
	for _, p := range set.Packages {
		add(p.File, artifact.PackageFile)
	}
	return answers
}
