package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

type buildFlags struct {
	all, locked, noTools, keepGoing, failFast, asJSON, quiet, reproduce, noCheck bool

	jobs, atOnce  int
	clean, engine string
}

func newBuild(g *globals) *cobra.Command {
	var f buildFlags
	cmd := &cobra.Command{
		Use:   "build [TARGET... | --all] [-- COMMAND [ARGUMENT...]]",
		Short: "Build the project for its targets",
		Long: "build runs the commands of stead.toml in the env of each target, in a copy of the project that is the\n" +
			"target's own, and brings the artifacts to dist/TARGET: fetch with the network, then command without.\n" +
			"Targets are built in parallel, as many as this machine has processors and memory for. They share its\n" +
			"jobs: commands find in STEAD_JOBS how many are theirs, and make is told by MAKEFLAGS, unless the command\n" +
			"has a -j of its own, or [env.variables] a MAKEFLAGS. Then it judges the artifacts, as check does, starts\n" +
			"what trial in stead.toml says, and ends with 3 where anything won't start on its target.",
		Example: "  stead build\n  stead build acme globex:next --keep-going\n  stead build acme -- make clean",
		RunE: func(cmd *cobra.Command, args []string) error {
			var command []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, command = args[:dash], args[dash:]
				if len(command) == 0 {
					return usagef("no command after --")
				}
			}
			if f.all && len(args) > 0 {
				return usagef("--all is every target of the project: name none")
			}
			return runBuild(cmd.Context(), g, f, args, command)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.all, "all", false, "build for every target of the project (the default where none is named)")
	flags.BoolVar(&f.locked, "locked", false, "fail where stead.lock doesn't match, and don't change it")
	noToolsFlag(flags, &f.noTools)
	flags.BoolVarP(&f.keepGoing, "keep-going", "k", false, "build the other targets when one fails")
	flags.BoolVar(&f.failFast, "fail-fast", false, "stop when a target fails (the default)")
	flags.VarP((*count1)(&f.jobs), "jobs", "j", "jobs that all builds run at once (default: one for each processor, as far as memory goes)")
	flags.Var((*count1)(&f.atOnce), "at-once", "targets to build at once (default: one for each job, as far as memory goes)")
	flags.StringVar(&f.clean, "clean", "", "start anew: view (what builds left; the default), or caches (what stead.toml keeps, too)")
	flags.Lookup("clean").NoOptDefVal = "view"
	flags.BoolVar(&f.reproduce, "reproduce", false, "build once more, in another folder and from empty caches, and compare: exit code 3 where artifacts differ")
	flags.BoolVar(&f.noCheck, "no-check", false, "neither judge the artifacts nor try them: no verdict is written down")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show nothing of what the commands write")
	flags.BoolVar(&f.asJSON, "json", false, "answer as JSON")
	engineFlag(flags, &f.engine)
	cmd.MarkFlagsMutuallyExclusive("keep-going", "fail-fast")
	return cmd
}

// count1 is a flag for a number that is at least 1, where it is given.
type count1 int

func (c *count1) Type() string { return "int" }

func (c *count1) String() string {
	if *c == 0 {
		return ""
	}
	return strconv.Itoa(int(*c))
}

func (c *count1) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("it is a number above 0")
	}
	*c = count1(n)
	return nil
}

// options are what the flags choose.
func (f *buildFlags) options() (opts envs.BuildOptions, err error) {
	opts = envs.BuildOptions{KeepGoing: f.keepGoing, Jobs: f.jobs, AtOnce: f.atOnce, Reproduce: f.reproduce, Unchecked: f.noCheck}
	known := map[string]envs.Clean{"": envs.CleanNothing, "view": envs.CleanView, "caches": envs.CleanCaches}
	clean, ok := known[f.clean]
	if !ok {
		return opts, usagef("--clean is view or caches, not %q", f.clean)
	}
	opts.Clean = clean
	return opts, nil
}

func runBuild(ctx context.Context, g *globals, f buildFlags, args, command []string) (err error) {
	opts, err := f.options()
	if err != nil {
		return err
	}
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
	if err == nil {
		releases, err = onceEach(releases)
	}
	if err != nil {
		return err
	}
	g.sweep(ctx, engine, envs.ScratchDir(w.config.Store))
	opts.Command, opts.User, opts.Builder = command, w.user, envs.ReadBuilder(thisVersion())
	opts.Index, opts.Tools = indexOptions, g.toolsOptions(w, f.engine)
	opts.Tools.Without, opts.Tools.Locked = f.noTools, f.locked
	board := newBoard(w.meter)
	defer board.close()
	if !f.quiet && len(releases) == 1 {
		board.streamed, opts.Output = true, &aside{w.meter, g.stderr}
	}
	opts.Events = board.event
	built, err := envs.BuildAll(ctx, w.config, engine, w.project, releases, opts)
	board.close()
	w.meter.close()
	if err == nil && slices.ContainsFunc(built, func(b envs.Built) bool {
		return b.Verdict == artifact.Fails || b.Reproduced != nil && !b.Reproduced.Same
	}) {
		err = exitCode(exitNegative)
	}
	if f.asJSON {
		if built == nil {
			built = []envs.Built{}
		}
		return errors.Join(err, g.printJSON(built))
	}
	for _, b := range built {
		g.printBuilt(b)
	}
	return err
}

func (g *globals) printBuilt(b envs.Built) {
	if b.Dir == "" {
		return
	}
	var size int64
	for _, a := range b.Artifacts.Artifacts {
		size += a.Size
	}
	name := fmt.Sprintf("%s@%d", b.Target, b.Release)
	fmt.Fprintf(g.stdout, "%s: %s, %s in %s%s\n", name, artifacts(len(b.Artifacts.Artifacts)), envs.Bytes(size), b.Dir, verdictOf(b))
	g.printVerdict(b)
	switch again := b.Reproduced; {
	case again == nil:
	case again.Same:
		fmt.Fprintf(g.stdout, "%s: byte-identical when built again, in %s\n", name, again.Dir)
	default:
		for _, d := range again.Differences {
			fmt.Fprintf(g.stdout, "%s: differs when built again, in %s: %s\n", name, again.Dir, clean(d.String()))
		}
		fmt.Fprintf(g.stdout, "%s: what was built again is in %s\n", name, again.View)
	}
}

func artifacts(n int) string {
	if n == 1 {
		return "1 artifact"
	}
	return fmt.Sprintf("%d artifacts", n)
}

// onceEach leaves out releases that are named twice. Two of one target would be built in
// the same view, for the same place.
func onceEach(releases []envs.Release) (list []envs.Release, err error) {
	for _, r := range releases {
		i := slices.IndexFunc(list, func(other envs.Release) bool { return other.Target == r.Target })
		switch {
		case i < 0:
			list = append(list, r)
		case list[i].Number != r.Number:
			return nil, usagef("%s and %s would both be built to dist/%s: name one", list[i], r, r.Target)
		}
	}
	return list, nil
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
