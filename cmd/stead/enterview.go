package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
)

func addView(cmd *cobra.Command, view *bool) {
	cmd.Flags().BoolVar(view, "view", false, "open the target's own copy of the project, as stead build sees it: no network, its caches, what it left")
	cmd.MarkFlagsMutuallyExclusive("view", "session")
	cmd.MarkFlagsMutuallyExclusive("view", "home")
}

// runView opens a shell in a target's view.
func runView(ctx context.Context, g *globals, f sessionFlags, target []string) error {
	w, err := g.open(true)
	if err != nil {
		return notStarted(g, err)
	}
	defer w.close() //nolint:errcheck // the shell's exit code counts
	engine, err := g.newEngine(ctx, w.user, f.engine, true)
	if err != nil {
		return notStarted(g, err)
	}
	spec, release, err := prepareView(ctx, g, w, f, target, engine)
	if err != nil {
		return notStarted(g, err)
	}
	defer release()
	result, err := g.start(ctx, w, engine, spec)
	if err != nil {
		return notStarted(g, err)
	}
	if result.ExitCode != 0 {
		return exitCode(result.ExitCode)
	}
	return nil
}

func prepareView(ctx context.Context, g *globals, w *work, f sessionFlags, target []string, engine runtime.Engine) (spec runtime.Spec, release func(), err error) {
	flags, err := f.settings()
	if err != nil {
		return spec, nil, err
	}
	rel, err := sessionRelease(g, w, f, target, nil)
	if err != nil {
		return spec, nil, err
	}
	if err := envs.CheckRuns(rel); err != nil {
		return spec, nil, err
	}
	root, err := envs.Pull(ctx, w.config, rel)
	if err != nil {
		return spec, nil, err
	}
	letGo, err := envs.Hold(root)
	if err != nil {
		return spec, nil, err
	}
	tools, err := addTools(ctx, g, w, f, root, nil)
	if err != nil {
		letGo()
		return spec, nil, err
	}
	done := func() { tools.Release(); letGo() }
	dir, err := os.Getwd()
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		done()
		return spec, nil, fmt.Errorf("finding the current folder: %w", err)
	}
	spec, leave, err := envs.ViewSession(ctx, w.config,
		envs.Made{Release: rel, Root: root.Path, Identity: root.Identity, Host: root.Header.Host, Header: root.Header,
			Tools: tools.Layer}, w.project, engine,
		envs.SessionOptions{Settings: flags, Terminal: isTerminal(os.Stdin) && isTerminal(g.stdout), Dir: dir})
	if err != nil {
		done()
		return spec, nil, err
	}
	return spec, func() { leave(); done() }, nil
}
