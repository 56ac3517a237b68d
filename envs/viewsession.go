package envs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/stead-env/stead/runtime"
)

// openView is OpenView that says when it has to wait.
func openView(ctx context.Context, cfg Config, project, target string) (*View, func(), error) {
	told := time.AfterFunc(time.Second, func() {
		cfg.Progress.Note("building", fmt.Sprintf("%s: waiting for a build or a session in its view to end", target))
	})
	defer told.Stop()
	return OpenView(ctx, cfg.Store, project, target)
}

// session is one in the view, with the project's path, the home of builds and the
// folders that stead.toml keeps between them.
func (v *View) session(settings Settings, build Build) (SessionOptions, error) {
	opts := SessionOptions{Settings: settings, homeDir: v.Home, source: v.Dir}
	for _, dir := range build.Caches {
		source, target, err := v.cache(dir)
		if err == nil {
			err = os.MkdirAll(source, 0o755)
		}
		if err != nil {
			return opts, fmt.Errorf("making cache %s: %w", dir, err)
		}
		opts.own = append(opts.own, Mount{Mount: runtime.Mount{Source: source, Target: target}})
	}
	return opts, nil
}

// cache is where a folder that is kept between builds lies, and its place inside.
func (v *View) cache(dir string) (source, target string, err error) {
	at, home := strings.CutPrefix(dir, "~/")
	at = path.Clean("/" + at)
	if at == "/" || !home && !path.IsAbs(dir) {
		return "", "", errors.New("it is neither an absolute path nor one below ~/")
	}
	if home {
		return filepath.Join(v.Caches, "home", filepath.FromSlash(at)), "~" + at, nil
	}
	return filepath.Join(v.Caches, "root", filepath.FromSlash(at)), at, nil
}

// ViewSession describes a session in a target's view, as the project's build sees it:
// where a build failed, people look there. What opts.Settings chooses wins over what
// builds have. The view is the session's until release is called.
func ViewSession(ctx context.Context, cfg Config, env Made, p *Project, engine runtime.Engine, opts SessionOptions) (spec runtime.Spec, release func(), err error) {
	target := env.Release.Target
	view, release, err := openView(ctx, cfg, p.Dir, target)
	if err != nil {
		return spec, nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if !view.synced() { // nothing was built: it begins as a build would
		if _, err := view.Sync(ctx, p.Dir, cfg.Progress); err != nil {
			return spec, nil, err
		}
	}
	base := buildSettings(p, target, UserConfig{})
	base.Network = runtime.NetworkNone
	build, _, _ := p.Config.For(target)
	inside, err := view.session(opts.Settings.over(base), build)
	if err != nil {
		return spec, nil, err
	}
	at, err := revision(ctx, p.Dir)
	if err != nil {
		cfg.Progress.Note("starting", err.Error()) // as a build would
	}
	inside.Variables = withSources(inside.Variables, at, view.Newest)
	inside.Command, inside.Terminal, inside.Dir, inside.Progress = opts.Command, opts.Terminal, opts.Dir, cfg.Progress
	if spec, err = SessionSpec(ctx, cfg.Store, env, p, inside); err != nil {
		return spec, nil, err
	}
	jobs, err := newJobs(cfg.Store, capacity(1, 0, 1))
	if err != nil {
		return spec, nil, err
	}
	return jobs.tell(spec, engine.Name()), release, nil
}
