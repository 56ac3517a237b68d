package envs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/stead-env/stead/runtime"
)

// builder is the build of one target.
type builder struct {
	*builds
	cfg      Config // with the target's own progress
	release  Release
	build    Build
	root     *Root
	tools    AddedTools
	view     *View
	place    string // where the project stands inside; "" for its own path
	settings Settings
	log      *buildLog
	made     Made
	facts    buildFacts

	disagreement error // of verdicts and the trial
}

// build builds the project for one release, in the target's view of it, and brings the
// artifacts to dist/TARGET.
func (b *builds) build(ctx context.Context, rel Release, built *Built) (err error) {
	r := &builder{builds: b, cfg: b.cfg, release: rel}
	r.cfg.Progress = b.progress(rel.Target)
	if err := r.plan(); err != nil {
		return err
	}
	r.phase(PhasePreparing, "")
	if r.root, err = Pull(ctx, r.cfg, rel); err != nil {
		return err
	}
	letGo, err := Hold(r.root)
	if err != nil {
		return err
	}
	defer letGo()
	if r.tools, err = r.project.ReadyTools(ctx, r.cfg, r.root, r.opts.Tools); err != nil {
		return err
	}
	defer r.tools.Release()
	view, release, err := openView(ctx, r.cfg, b.project.Dir, rel.Target)
	if err != nil {
		return err
	}
	defer release()
	r.view = view
	if r.log, err = createLog(view.Log); err != nil {
		return fmt.Errorf("building for %s: %w", rel.Target, err)
	}
	defer func() { err = errors.Join(err, r.log.Close()) }()
	built.Log = view.Log
	if err := r.sync(ctx); err != nil {
		return err
	}
	if err := r.commands(ctx); err != nil {
		return err
	}
	r.phase(PhaseCollecting, "")
	list, err := r.collect(ctx)
	if err != nil {
		return err
	}
	built.Artifacts, built.Dir = list, filepath.Join(b.project.Dir, "dist", rel.Target)
	if r.disagreement != nil {
		return r.disagreement
	}
	if b.opts.Reproduce {
		built.Reproduced, err = r.reproduce(ctx, list)
	}
	return err
}

// plan finds what is to be done, before anything is.
func (r *builder) plan() error {
	build, _, _ := r.project.Config.For(r.release.Target)
	if len(r.opts.Command) > 0 {
		build.Command = r.opts.Command
	}
	if len(build.Command) == 0 {
		return &NothingToBuildError{r.release.Target, r.project.Dir}
	}
	for key, words := range map[string][]string{"fetch": build.Fetch, "command": build.Command} {
		if len(words) > 0 && words[0] == "" {
			return fmt.Errorf("building for %s: the first word of %s is empty, and is to be a program", r.release.Target, key)
		}
	}
	r.build = build
	if err := checkPatterns(r.release.Target, build.Artifacts); err != nil {
		return err
	}
	if err := checkDist(r.project.Dir, r.release.Target); err != nil {
		return err
	}
	return CheckRuns(r.release)
}

func (r *builder) phase(p Phase, text string) {
	r.tell(BuildEvent{Target: r.release.Target, Phase: p, Text: text, Begins: true})
}

// sync brings the view up to date, and finds what the commands are told of the sources.
func (r *builder) sync(ctx context.Context) error {
	r.phase(PhaseSyncing, "")
	if r.opts.Clean != CleanNothing {
		removed, err := r.view.Clear(r.opts.Clean)
		if err != nil {
			return err
		}
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: %s", r.release, removed))
	}
	r.settings = buildSettings(r.project, r.release.Target, r.opts.User)
	source, err := ReadSource(ctx, r.project.Dir)
	if err != nil {
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: nothing will tell of the sources: %v", r.release, err))
	}
	r.facts = buildFacts{Project: r.project.Dir, Source: source, Build: r.build, Settings: r.settings,
		Engine: r.engine.Name(), Builder: r.opts.Builder, Started: time.Now()}
	if _, err := r.view.Sync(ctx, r.project.Dir, r.cfg.Progress); err != nil {
		return err
	}
	r.made = Made{Release: r.release, Root: r.root.Path, Identity: r.root.Identity, Host: r.root.Header.Host, Header: r.root.Header,
		Tools: r.tools.Layer}
	r.settings.Variables = withSources(r.settings.Variables, commit{source.Commit, source.Date}, r.view.Newest)
	return nil
}

// sourceDate is SOURCE_DATE_EPOCH: the commit's date, or that of the newest file where
// there is no commit.
func sourceDate(c commit, newest time.Time) time.Time {
	if c.date.IsZero() {
		return newest
	}
	return c.date
}

// withSources adds what commands are told of the sources to variables, which win.
func withSources(vars map[string]string, c commit, newest time.Time) map[string]string {
	all := map[string]string{"STEAD_REVISION": c.id,
		"SOURCE_DATE_EPOCH": strconv.FormatInt(max(sourceDate(c, newest).Unix(), 0), 10)}
	maps.Copy(all, vars)
	return all
}

// collect brings what the patterns match from the view to dist/. A command of the
// user's own may make none of it.
func (r *builder) collect(ctx context.Context) (Artifacts, error) {
	target, source := r.release.Target, r.facts.Source
	list := Artifacts{Target: target, Release: r.release.Number, Lock: r.root.Identity, Revision: source.Commit, Dirty: source.Dirty,
		Artifacts: []Artifact{}}
	dir, err := os.OpenRoot(r.view.Dir)
	if err != nil {
		return list, fmt.Errorf("building for %s: %w", target, err)
	}
	defer dir.Close()
	note := func(text string) { r.cfg.Progress.Note("building", fmt.Sprintf("%s: %s", r.release, text)) }
	found, err := collect(ctx, dir, target, r.build.Artifacts, note)
	var missing *ArtifactError
	if len(r.opts.Command) > 0 && errors.As(err, &missing) && missing.Missing {
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: pattern %q matches no file: dist/%s stays as it was",
			r.release, missing.Pattern, target))
		return list, nil
	}
	if err != nil {
		return list, err
	}
	evidence := r.facts.tell(r.root, r.tools.Tools, r.tools.Layer)
	return bring(ctx, dir, r.project.Dir, list, found, func(dir string, list *Artifacts) ([]Evidence, error) {
		if err := r.judge(ctx, dir, list, found); err != nil {
			return nil, err
		}
		return evidence(list.Artifacts)
	}, note)
}

// buildSettings are what commands of a build have of the project's [env]: what is
// for people, a home, a display, being root, they don't. Of the user's there is only
// what reaching the network takes: what is built must not depend on who builds it.
func buildSettings(p *Project, target string, user UserConfig) Settings {
	s := p.Settings(target, UserConfig{Env: Settings{Certificates: user.Env.Certificates}}, Settings{})
	s.Root, s.Display, s.Home = nil, nil, ""
	return s
}

// commands runs fetch, with the network, and then command, without.
func (r *builder) commands(ctx context.Context) error {
	for _, step := range []struct {
		phase   Phase
		command []string
		network runtime.Network
	}{{PhaseFetching, r.build.Fetch, runtime.NetworkHost}, {PhaseBuilding, r.build.Command, runtime.NetworkNone}} {
		if len(step.command) == 0 {
			continue
		}
		if err := r.run(ctx, step.phase, step.command, step.network); err != nil {
			return err
		}
	}
	return nil
}

// run runs one command in the view, as the build sees it.
func (r *builder) run(ctx context.Context, phase Phase, command []string, network runtime.Network) error {
	opts, err := r.view.session(r.settings, r.build)
	if err != nil {
		return fmt.Errorf("building for %s: %w", r.release.Target, err)
	}
	opts.place = r.place
	opts.Network, opts.Command, opts.Progress, opts.SSHAgent = network, command, r.cfg.Progress, r.opts.User.SSHAgent
	spec, err := SessionSpec(ctx, r.cfg.Store, r.made, r.project, opts)
	if err != nil {
		return err
	}
	spec = r.jobs.tell(spec, r.engine.Name())
	text := commandText(command)
	if _, err := fmt.Fprintf(r.log, "+ %s\n", text); err != nil {
		return fmt.Errorf("writing %s: %w", r.log.Name(), err)
	}
	if r.place != "" {
		text = "again, in " + r.place + ": " + text
	}
	r.phase(phase, text)
	var out io.Writer = r.log
	switch {
	case r.opts.Output != nil:
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: %s", r.release, text))
		out = &both{r.log, r.opts.Output}
	case r.opts.Events != nil:
		out = &both{r.log, &lastLine{tell: func(line string) { r.tell(BuildEvent{Target: r.release.Target, Text: line}) }}}
	}
	result, err := r.engine.Run(ctx, spec, runtime.Stdio{Out: out, Err: out})
	for _, note := range result.Notes {
		r.note(note)
	}
	if err != nil {
		return fmt.Errorf("building for %s: %w", r.release.Target, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return &BuildError{Target: r.release.Target, Command: command, Code: result.ExitCode, Log: r.log.Name()}
	}
	return nil
}

// both writes to a log and shows the same. A terminal that went away stops no build.
type both struct {
	log  io.Writer
	show io.Writer
}

func (b *both) Write(p []byte) (int, error) {
	n, err := b.log.Write(p)
	if _, shown := b.show.Write(p); shown != nil {
		b.show = io.Discard
	}
	return n, err
}

// lastLine tells of the last whole line that is written to it, and of what stands there
// before a carriage return.
type lastLine struct {
	tell func(line string)
	rest []byte
}

// maxLine bounds what is kept of a line.
const maxLine = 512

func (l *lastLine) Write(p []byte) (int, error) {
	n := len(p)
	for {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.rest = append(l.rest, p[:min(len(p), max(maxLine-len(l.rest), 0))]...)
			return n, nil
		}
		l.rest = append(l.rest, p[:min(i, max(maxLine-len(l.rest), 0))]...)
		if line := strings.TrimSpace(string(l.rest)); line != "" {
			l.tell(line)
		}
		l.rest, p = l.rest[:0], p[i+1:]
	}
}
