package envs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/runtime"
)

// BuildOptions are what a person can choose about a build.
type BuildOptions struct {
	Command   []string // instead of stead.toml's; artifacts are brought if all are there
	KeepGoing bool     // build the other targets when one fails
	AtOnce    int      // targets built at once; 0 for one
	Output    io.Writer
	User      UserConfig
	Builder   Builder // as provenance names it
}

// Built is a target that was built.
type Built struct {
	Artifacts
	Dir string `json:"dir"` // dist/TARGET, absolute
	Log string `json:"log"` // what the commands wrote
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

// ToolsError says that a project asks for what can't be added to an env yet.
type ToolsError struct {
	Target string
	Tools  []string
}

func (e *ToolsError) Error() string {
	return fmt.Sprintf("building for %s: adding tools (%s) to an env isn't built yet", e.Target, strings.Join(e.Tools, ", "))
}

// Hint says how to go on.
func (e *ToolsError) Hint() string {
	return "where the host has a compiler of its own, leave tools out of stead.toml"
}

// BuildAll builds the project for each release. The error joins those of all that
// failed.
func BuildAll(ctx context.Context, cfg Config, engine runtime.Engine, p *Project, releases []Release, opts BuildOptions) ([]Built, error) {
	results := make([]*Built, len(releases))
	failed := make([]error, len(releases))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(opts.AtOnce, 1))
	if len(releases) > 1 && opts.AtOnce > 1 {
		opts.Output = nil // what two say at once nobody can read: the logs have it
	}
	for i, rel := range releases {
		g.Go(func() error {
			if gctx.Err() != nil {
				return nil // another target failed, and told why
			}
			if results[i], failed[i] = BuildOne(gctx, cfg, engine, p, rel, opts); failed[i] != nil && !opts.KeepGoing {
				return failed[i]
			}
			return nil
		})
	}
	first := g.Wait()
	var built []Built
	for _, r := range results {
		if r != nil {
			built = append(built, *r)
		}
	}
	if err := ctx.Err(); err != nil {
		return built, err
	}
	if !opts.KeepGoing {
		return built, first
	}
	return built, errors.Join(failed...)
}

// BuildOne builds the project for one release, in the target's view of it, and
// brings the artifacts to dist/TARGET.
func BuildOne(ctx context.Context, cfg Config, engine runtime.Engine, p *Project, rel Release, opts BuildOptions) (b *Built, err error) {
	build, tools, _ := p.Config.For(rel.Target)
	if len(opts.Command) > 0 {
		build.Command = opts.Command
	}
	if len(build.Command) == 0 {
		return nil, &NothingToBuildError{rel.Target, p.Dir}
	}
	if len(tools) > 0 {
		return nil, &ToolsError{rel.Target, tools}
	}
	if err := CheckRuns(rel); err != nil {
		return nil, err
	}
	root, err := Pull(ctx, cfg, rel)
	if err != nil {
		return nil, err
	}
	letGo, err := Hold(root)
	if err != nil {
		return nil, err
	}
	defer letGo()
	view, release, err := OpenView(ctx, cfg.Store, p.Dir, rel.Target)
	if err != nil {
		return nil, err
	}
	defer release()
	facts := buildFacts{Project: p.Dir, Source: ReadSource(ctx, p.Dir), Build: build, Settings: buildSettings(p, rel.Target, opts.User),
		Engine: engine.Name(), Builder: opts.Builder, Started: time.Now()}
	if _, err := view.Sync(ctx, p.Dir, cfg.Progress); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(filepath.Dir(view.Dir), "build.log"))
	if err != nil {
		return nil, fmt.Errorf("building for %s: %w", rel.Target, err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	run := builder{cfg: cfg, engine: engine, project: p, view: view, settings: buildSettings(p, rel.Target, opts.User), agent: opts.User.SSHAgent,
		made: Made{Release: rel, Root: root.Path, Identity: root.Identity, Host: root.Header.Host, Header: root.Header}, log: log, out: log}
	if opts.Output != nil {
		run.out = &both{log, opts.Output}
	}
	list := Artifacts{Target: rel.Target, Release: rel.Number, Lock: root.Identity, Revision: facts.Source.Commit, Dirty: facts.Source.Dirty,
		Artifacts: []Artifact{}}
	run.settings.Variables["STEAD_REVISION"] = list.Revision
	if err := run.commands(ctx, build); err != nil {
		return nil, err
	}
	b = &Built{Dir: filepath.Join(p.Dir, "dist", rel.Target), Log: log.Name()}
	b.Artifacts, err = run.artifacts(ctx, list, build.Artifacts, len(opts.Command) > 0, facts.tell(root, nil, nil))
	if err != nil {
		return nil, err
	}
	return b, nil
}

// artifacts brings what the patterns match from the view to dist/. A command of the
// user's own may make none of it.
func (b *builder) artifacts(ctx context.Context, list Artifacts, patterns []string, own bool,
	evidence func([]Artifact) ([]Evidence, error)) (Artifacts, error) {
	dir, err := os.OpenRoot(b.view.Dir)
	if err != nil {
		return list, fmt.Errorf("building for %s: %w", list.Target, err)
	}
	defer dir.Close()
	found, err := collect(ctx, dir, list.Target, patterns)
	var missing *ArtifactError
	if own && errors.As(err, &missing) && missing.Missing {
		b.cfg.Progress.Note("building", fmt.Sprintf("%s: pattern %q matches no file: dist/%s stays as it was",
			b.made.Release, missing.Pattern, list.Target))
		return list, nil
	}
	if err != nil {
		return list, err
	}
	return bring(ctx, dir, b.project.Dir, list, found, evidence)
}

// builder runs the commands of one build.
type builder struct {
	cfg      Config
	engine   runtime.Engine
	project  *Project
	view     *View
	made     Made
	settings Settings
	agent    bool // the commands that have the network may use the ssh agent
	log      *os.File
	out      io.Writer
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
func (r *builder) commands(ctx context.Context, build Build) error {
	caches, err := r.caches(build.Caches)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		command []string
		network runtime.Network
	}{{build.Fetch, runtime.NetworkHost}, {build.Command, runtime.NetworkNone}} {
		if len(step.command) == 0 {
			continue
		}
		opts := SessionOptions{Settings: r.settings, Progress: r.cfg.Progress, SSHAgent: r.agent, Command: step.command, homeDir: r.view.Home, source: r.view.Dir}
		opts.Network, opts.Mounts = step.network, slices.Concat(r.settings.Mounts, caches)
		spec, err := SessionSpec(ctx, r.cfg.Store, r.made, r.project, opts)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(r.log, "+ %s\n", commandText(step.command)); err != nil {
			return fmt.Errorf("writing %s: %w", r.log.Name(), err)
		}
		r.cfg.Progress.Note("building", fmt.Sprintf("%s: %s", r.made.Release, commandText(step.command)))
		result, err := r.engine.Run(ctx, spec, runtime.Stdio{Out: r.out, Err: r.out})
		for _, note := range result.Notes {
			r.cfg.Progress.Note("building", note)
		}
		if err != nil {
			return fmt.Errorf("building for %s: %w", r.made.Release.Target, err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if result.ExitCode != 0 {
			return &BuildError{Target: r.made.Release.Target, Command: step.command, Code: result.ExitCode, Log: r.log.Name()}
		}
	}
	return nil
}

// caches are mounts for the folders that stead.toml keeps between builds. Those in
// the home folder are kept with it.
func (r *builder) caches(dirs []string) ([]Mount, error) {
	var mounts []Mount
	for _, dir := range dirs {
		if strings.HasPrefix(dir, "~/") {
			continue
		}
		if !path.IsAbs(dir) || path.Clean(dir) == "/" {
			return nil, fmt.Errorf("building for %s: cache %q is neither an absolute path nor one below ~/", r.made.Release.Target, dir)
		}
		source := filepath.Join(filepath.Dir(r.view.Dir), "caches", filepath.FromSlash(path.Clean(dir)))
		if err := os.MkdirAll(source, 0o755); err != nil {
			return nil, fmt.Errorf("making cache %s: %w", dir, err)
		}
		mounts = append(mounts, Mount{Mount: runtime.Mount{Source: source, Target: path.Clean(dir)}})
	}
	return mounts, nil
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
