package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

type buildFlags struct {
	locked, keepGoing, failFast, asJSON, quiet bool
	jobs                                       int
	engine                                     string
}

func newBuild(g *globals) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [TARGET...] [-- COMMAND [ARGUMENT...]]",
		Short: "Build the project for its targets",
		Long: "build runs the command of stead.toml in the env of each target, without a network and in a copy of\n" +
			"the project that is the target's own, and brings the artifacts to dist/TARGET.",
		Example: "  stead build\n  stead build acme globex:next --keep-going\n  stead build acme -- make clean",
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, command = args[:dash], args[dash:]
				if len(command) == 0 {
					return usagef("no command after --")
				}
			}
			return runBuild(cmd.Context(), g, f, args, command)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.locked, "locked", false, "fail where stead.lock doesn't match, and don't change it")
	flags.BoolVarP(&f.keepGoing, "keep-going", "k", false, "build the other targets when one fails")
	flags.BoolVar(&f.failFast, "fail-fast", false, "stop when a target fails (the default)")
	flags.IntVarP(&f.jobs, "jobs", "j", 1, "targets to build at once")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing of what the commands write")
	flags.BoolVar(&f.asJSON, "json", false, "answer as JSON")
	engineFlag(flags, &f.engine)
	cmd.MarkFlagsMutuallyExclusive("keep-going", "fail-fast")
	return cmd
}

func runBuild(ctx context.Context, g *globals, f buildFlags, args, command []string) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	engine, err := g.newEngine(ctx, w.user, f.engine, false)
	if err != nil {
		return err
	}
	releases, err := w.releases(args, f.locked)
	if err != nil {
		return err
	}
	g.sweep(ctx, engine, envs.ScratchDir(w.config.Store))
	opts := envs.BuildOptions{Command: command, KeepGoing: f.keepGoing, AtOnce: f.jobs, User: w.user, Builder: envs.ReadBuilder(thisVersion())}
	if !f.quiet {
		opts.Output = &aside{w.meter, g.stderr}
	}
	built, err := envs.BuildAll(ctx, w.config, engine, w.project, releases, opts)
	w.meter.close()
	if f.asJSON {
		if built == nil {
			built = []envs.Built{}
		}
		return errors.Join(err, g.printJSON(built))
	}
	for _, b := range built {
		var size int64
		for _, a := range b.Artifacts.Artifacts {
			size += a.Size
		}
		fmt.Fprintf(g.stdout, "%s@%d: %d artifacts, %s in %s\n", b.Target, b.Release, len(b.Artifacts.Artifacts), envs.Bytes(size), b.Dir)
	}
	return err
}

// aside writes what a command says, without a progress bar in its way.
type aside struct {
	meter *meter
	w     io.Writer
}

func (a *aside) Write(p []byte) (n int, err error) {
	a.meter.pause(func() { n, err = a.w.Write(p) })
	return n, err
}
