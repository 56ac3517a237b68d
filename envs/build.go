package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/snapshot"
)

// BuildOptions are what a person can choose about builds.
type BuildOptions struct {
	Command   []string // instead of stead.toml's; artifacts are brought if all are there
	KeepGoing bool     // build the other targets when one fails
	Jobs      int      // commands that all builds run at once; 0 for what this machine has
	AtOnce    int      // targets built at once; 0 for what this machine has
	Clean     Clean    // what is removed before
	Reproduce bool     // build once more, elsewhere, and compare
	Unchecked bool     // neither judge what was built, nor try it
	Output    io.Writer
	Events    func(BuildEvent) // may be called from several goroutines at once
	User      UserConfig
	Tools     ToolsConfig
	Builder   Builder // as provenance names it
	Index     IndexOptions
}

// Built is what became of one target.
type Built struct {
	Artifacts
	Dir     string  `json:"dir,omitempty"` // dist/TARGET, absolute; "" where it wasn't built
	Log     string  `json:"log,omitempty"` // what the commands wrote
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"` // why it wasn't built

	Reproduced *Reproduced `json:"reproduced,omitempty"` // where that was asked for

	err error
}

// Phase is what is done for a target.
type Phase string

// The phases of a build. Of the last three one is the end.
const (
	PhaseWaiting    Phase = "waiting"
	PhasePreparing  Phase = "preparing"  // the env is fetched and made
	PhaseSyncing    Phase = "syncing"    // the view is brought up to date
	PhaseFetching   Phase = "fetching"   // stead.toml's fetch
	PhaseBuilding   Phase = "building"   // its command
	PhaseTrying     Phase = "trying"     // stead.toml's trial
	PhaseChecking   Phase = "checking"   // verdicts
	PhaseCollecting Phase = "collecting" // artifacts are brought to dist/
	PhaseBuilt      Phase = "built"
	PhaseFailed     Phase = "failed"
	PhaseStopped    Phase = "stopped" // because of another one, or of the user
)

// BuildEvent tells how the build of one target goes on.
type BuildEvent struct {
	Target string
	Phase  Phase
	Text   string // the command that begins, or the last line that it wrote
	Begins bool   // Phase does
	Built  *Built // at the end
	Err    error  // why it failed
}

// BuildError says that a build's own command failed.
type BuildError struct {
	Target  string
	Command []string
	Code    int
	Log     string
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("building for %s: %s ended with exit code %d; its output is in %s",
		e.Target, commandText(e.Command), e.Code, e.Log)
}

// Hint says how to look at what it left, as the build sees it.
func (e *BuildError) Hint() string {
	return "stead enter --view " + e.Target
}

// commandText is a command for people, quoted where a word needs it.
func commandText(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`*?[]{}()<>|&;#~!") {
			quoted[i] = strconv.Quote(w)
		}
	}
	return strings.Join(quoted, " ")
}

// NothingToBuildError says that stead.toml has no command for a target.
type NothingToBuildError struct{ Target, Project string }

func (e *NothingToBuildError) Error() string {
	return fmt.Sprintf("building for %s: the project at %s has no build command", e.Target, e.Project)
}

// Hint says how to go on.
func (e *NothingToBuildError) Hint() string {
	return "put command under [build] in stead.toml, or give one: stead build " + e.Target + " -- COMMAND"
}

// builds are the builds of one command.
type builds struct {
	cfg     Config
	engine  runtime.Engine
	project *Project
	opts    BuildOptions
	jobs    *jobs
	noted   sync.Map // what engines said, which they say of each session
}

// note tells what an engine said of a session, once.
func (b *builds) note(text string) {
	if _, told := b.noted.LoadOrStore(text, true); !told {
		b.cfg.Progress.Note("building", text)
	}
}

// BuildAll builds the project for each release, as many at once as this machine can
// take. It tells of each; the error joins those of all that failed.
func BuildAll(ctx context.Context, cfg Config, engine runtime.Engine, p *Project, releases []Release, opts BuildOptions) ([]Built, error) {
	if len(releases) == 0 {
		return nil, nil
	}
	c := capacity(len(releases), opts.Jobs, opts.AtOnce)
	if c.Note != "" {
		cfg.Progress.Note("building", c.Note)
	}
	jobs, err := newJobs(cfg.Store, c)
	if err != nil {
		return nil, err
	}
	defer jobs.close()
	b := &builds{cfg: cfg, engine: engine, project: p, opts: opts, jobs: jobs}
	if len(releases) > 1 {
		b.opts.Output = nil // what two say at once nobody can read: the logs have it
	}
	list := make([]Built, len(releases))
	for i, rel := range releases {
		list[i].Target, list[i].Release = rel.Target, rel.Number
		list[i].Artifacts.Artifacts = []Artifact{}
		b.tell(BuildEvent{Target: rel.Target, Phase: PhaseWaiting, Begins: true})
	}
	err = b.each(ctx, c.Builds, releases, list)
	if interrupted := ctx.Err(); interrupted != nil {
		return list, interrupted
	}
	return list, err
}

// each builds all releases; a build that ends, and after which no other begins, leaves
// its job to those that go on.
func (b *builds) each(ctx context.Context, atOnce int, releases []Release, list []Built) error {
	gctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	next := 0
	take := func() (i int, more bool) {
		mu.Lock()
		defer mu.Unlock()
		i = next
		next++
		return i, i < len(releases)
	}
	var g errgroup.Group
	for range atOnce {
		g.Go(func() error {
			for i, more := take(); more; i, more = take() {
				b.one(gctx, releases[i], &list[i])
				if list[i].err != nil && !b.opts.KeepGoing {
					stop()
				}
			}
			return b.jobs.give(1)
		})
	}
	var failed failures
	if err := g.Wait(); err != nil {
		failed = append(failed, err)
	}
	for i := range list {
		if err := list[i].err; err != nil && !errors.Is(err, context.Canceled) {
			failed = append(failed, err)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return failed
}

// failures are those of several builds.
type failures []error

func (f failures) Error() string   { return errors.Join(f...).Error() }
func (f failures) Unwrap() []error { return f }

// Hint is what there is to say for each, once.
func (f failures) Hint() string {
	var hints []string
	for _, err := range f {
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) && hinted.Hint() != "" && !slices.Contains(hints, hinted.Hint()) {
			hints = append(hints, hinted.Hint())
		}
	}
	return strings.Join(hints, "; ")
}

// one builds one target, and tells how it ended.
func (b *builds) one(ctx context.Context, rel Release, built *Built) {
	begun := time.Now()
	err := ctx.Err()
	if err == nil {
		err = b.build(ctx, rel, built)
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	built.Seconds, built.err = time.Since(begun).Seconds(), err
	end := BuildEvent{Target: rel.Target, Phase: PhaseBuilt, Begins: true, Built: built, Err: err}
	switch {
	case err != nil && ctx.Err() != nil:
		end.Phase, built.Error = PhaseStopped, "stopped before its end"
	case err != nil:
		end.Phase, built.Error = PhaseFailed, err.Error()
	}
	b.tell(end)
}

func (b *builds) tell(e BuildEvent) {
	if b.opts.Events != nil {
		b.opts.Events(e)
	}
}

// progress is told of the target's line, but notes are for all to read.
func (b *builds) progress(target string) snapshot.Progress {
	if b.opts.Events == nil || b.opts.Output != nil {
		return b.cfg.Progress
	}
	return func(e snapshot.Event) {
		if e.Note != "" {
			b.cfg.Progress.Report(e)
			return
		}
		text := e.Stage
		if e.Total > 0 && e.Unit != "bytes" {
			text += fmt.Sprintf(" %d of %d", e.Done, e.Total)
		} else if e.Total > 0 {
			text += " " + Bytes(e.Done) + " of " + Bytes(e.Total)
		}
		b.tell(BuildEvent{Target: target, Text: text})
	}
}
