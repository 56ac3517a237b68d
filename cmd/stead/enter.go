package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
)

func newEnter(g *globals) *cobra.Command {
	var f sessionFlags
	var view bool
	cmd := &cobra.Command{
		Use:   "enter [TARGET]",
		Short: "Open a shell in an env",
		Long: "enter opens a shell in the env of a target, with this project at its own path. What this machine\n" +
			"lacks is pulled first.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if view {
				return runView(cmd.Context(), g, f, args)
			}
			return runSession(cmd.Context(), g, f, args, nil)
		},
	}
	f.add(cmd.Flags())
	addSession(g, cmd, &f.session)
	addView(cmd, &view)
	return cmd
}

func newRun(g *globals) *cobra.Command {
	var f sessionFlags
	cmd := &cobra.Command{
		Use:   "run [TARGET] -- COMMAND [ARGUMENT...]",
		Short: "Run a command in an env",
		Long: "run runs one command in the env of a target, with this project at its own path, and ends with its\n" +
			"exit code. 125 means that it could not be started, 126 that it can't be executed, 127 that there is\n" +
			"no such command.",
		Example: "  stead run acme -- make test\n  stead run -- ./app --version",
		RunE: func(cmd *cobra.Command, args []string) error {
			target, command, err := splitCommand(cmd.Flags(), args)
			if err != nil {
				return &usageError{err}
			}
			if help, err := cmd.Flags().GetBool("help"); help && err == nil { // after the target
				return cmd.Help()
			}
			if len(target) > 1 {
				return usagef("run takes one target, not %s", strings.Join(target, " "))
			}
			if len(command) == 0 {
				return usagef("no command given: stead run TARGET -- COMMAND")
			}
			if command[0] == "" {
				return usagef("the command's name is empty: stead run TARGET -- COMMAND")
			}
			return runSession(cmd.Context(), g, f, target, command)
		},
	}
	f.add(cmd.Flags())
	addSession(g, cmd, &f.session)
	cmd.Flags().SetInterspersed(false) // what follows TARGET without -- is the command's
	return cmd
}

// splitCommand parts what stands before -- from what stands after it. Without one
// the first word is the target. Flags may follow the target: no command begins
// with a dash.
func splitCommand(flags *pflag.FlagSet, args []string) (targets, command []string, err error) {
	if dash := flags.ArgsLenAtDash(); dash >= 0 {
		return args[:dash], args[dash:], nil
	}
	if len(args) < 2 {
		return args, nil, nil
	}
	targets = args[:1]
	if err := flags.Parse(args[1:]); err != nil {
		return nil, nil, err
	}
	return targets, flags.Args(), nil
}

// runSession runs a command, or a shell, and gives its exit code.
func runSession(ctx context.Context, g *globals, f sessionFlags, target, command []string) error {
	w, err := g.open(true)
	if err != nil {
		return notStarted(g, err)
	}
	defer w.close() //nolint:errcheck // the command's exit code counts
	asking, stop := context.WithCancel(ctx)
	defer stop()
	git := envs.AskGitIdentity(asking, w.project)
	kept, err := holdKept(w, f.session)
	if err != nil {
		return notStarted(g, err)
	}
	defer kept.letGo(g)
	engine, err := g.newEngine(ctx, w.user, kept.engine(f.engine), len(command) == 0)
	if err != nil {
		return notStarted(g, err)
	}
	spec, root, tools, err := prepareSession(ctx, g, w, f, target, command, kept, git)
	if err != nil {
		return notStarted(g, err)
	}
	defer tools.Release()
	letGo, err := envs.Hold(root)
	if err != nil {
		return notStarted(g, err)
	}
	defer letGo()
	if err := kept.use(root, engine, tools); err != nil {
		return notStarted(g, err)
	}
	result, err := g.start(ctx, w, engine, spec)
	if err != nil {
		return notStarted(g, err)
	}
	kept.started()
	if spec.Upper == "" && (len(command) == 0 || isTerminal(g.stderr)) {
		g.tellGone(result.Changed)
	}
	if result.ExitCode != 0 {
		return exitCode(result.ExitCode)
	}
	return nil
}

// start runs a session to its end and tells what the engine notes.
func (g *globals) start(ctx context.Context, w *work, engine runtime.Engine, spec runtime.Spec) (runtime.Result, error) {
	w.meter.close()
	g.sweep(ctx, engine, spec.Scratch)
	if err := ctx.Err(); err != nil {
		return runtime.Result{}, err
	}
	// From here on signals are the command's, which may survive them: the engine
	// passes them on.
	result, err := engine.Run(context.WithoutCancel(ctx), spec, runtime.Stdio{In: os.Stdin, Out: g.stdout, Err: g.stderr})
	for _, note := range result.Notes {
		fmt.Fprintln(g.stderr, note)
	}
	return result, err
}

// tellGone says what a session lost. What a script runs has its standard error to
// itself.
func (g *globals) tellGone(files int) {
	switch {
	case files == 1:
		fmt.Fprintln(g.stderr, "1 file outside the project was changed and is gone (stead enter --session NAME keeps it)")
	case files > 1:
		fmt.Fprintf(g.stderr, "%d files outside the project were changed and are gone (stead enter --session NAME keeps them)\n", files)
	}
}

// notStarted tells why a command was not run and gives the exit code for that. A
// command line that can't be meant stays one.
func notStarted(g *globals, err error) error {
	var usage *usageError
	if errors.As(err, &usage) {
		return err
	}
	g.report(nil, err)
	return exitCode(runtime.ExitCode(err))
}

func prepareSession(ctx context.Context, g *globals, w *work, f sessionFlags, target, command []string, kept *keptSession, git *envs.GitIdentity) (spec runtime.Spec, root *envs.Root, tools envs.AddedTools, err error) {
	flags, err := f.settings()
	if err != nil {
		return spec, nil, tools, err
	}
	rel, err := sessionRelease(g, w, f, target, kept)
	if err != nil {
		return spec, nil, tools, err
	}
	if err := envs.CheckRuns(rel); err != nil {
		return spec, nil, tools, err
	}
	if root, err = envs.Pull(ctx, w.config, rel); err != nil {
		return spec, nil, tools, err
	}
	if tools, err = addTools(ctx, g, w, f, root, kept); err != nil {
		return spec, nil, tools, err
	}
	dir, err := os.Getwd()
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return spec, nil, tools, fmt.Errorf("finding the current folder: %w", err)
	}
	spec, err = envs.SessionSpec(ctx, w.config.Store,
		envs.Made{Release: rel, Root: root.Path, Identity: root.Identity, Host: root.Header.Host, Header: root.Header,
			Tools: tools.Layer}, w.project,
		envs.SessionOptions{Settings: w.project.Settings(rel.Target, w.user, flags), Command: command, Upper: kept.upper(),
			Terminal: isTerminal(os.Stdin) && isTerminal(g.stdout), Dir: dir, SSHAgent: w.user.SSHAgent, Git: git, Progress: w.config.Progress})
	return spec, root, tools, err
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
