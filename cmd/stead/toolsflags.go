package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
	"github.com/stead-env/stead/snapshot/pkgdb"
)

// noToolsFlag adds --no-tools.
func noToolsFlag(flags *pflag.FlagSet, without *bool) {
	flags.BoolVar(without, "no-tools", false, "leave out the tools of stead.toml: the target alone, as production has it")
}

// toolsOptions says how tools are chosen and made. The engine that --engine names is
// looked for when scripts have to run, which is once for everybody.
func (g *globals) toolsOptions(w *work, engine string) envs.ToolsConfig {
	return envs.ToolsConfig{
		ToolsOptions: envs.ToolsOptions{Readers: pkgdb.Readers, OpenRoot: func(dir string) (snapshot.Host, error) { return host.Folder(dir) }},
		Make: func(ctx context.Context) (envs.MakeOptions, error) {
			e, err := g.newEngine(ctx, w.user, engine, false)
			if err != nil {
				return envs.MakeOptions{}, fmt.Errorf("installing tools: %w", err)
			}
			return makeOptions(e)
		},
	}
}

// addTools makes the project's tools ready, or those that a kept session was begun with.
func addTools(ctx context.Context, g *globals, w *work, f sessionFlags, root *envs.Root, kept *keptSession) (envs.AddedTools, error) {
	opts := g.toolsOptions(w, f.engine)
	opts.Without, opts.Locked = f.noTools, f.locked
	if kept == nil {
		return w.project.ReadyTools(ctx, w.config, root, opts)
	}
	tools, note, err := kept.Tools(ctx, w.config, root, w.project, opts)
	if note != "" {
		w.meter.pause(func() { fmt.Fprintln(g.stderr, note) })
	}
	return tools, err
}
