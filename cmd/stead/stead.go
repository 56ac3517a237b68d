package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
)

// The exit codes. enter and run give the command's own, and runtime's for what went
// wrong before there was one.
const (
	exitError    = 1
	exitUsage    = 2
	exitNegative = 3 // an answer was asked for, and it is no
)

// usageError is a command line that can't be meant.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitCode is an error that has been told already, or needs no words.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// globals is what all commands share.
type globals struct {
	stdout, stderr io.Writer
	fleet          string // --fleet
	progress       string // --progress

	alone       string // why there are no ids inside but the user's own
	noNamespace error  // why an ordinary user's command has no user namespace
}

// run runs one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	g := &globals{stdout: stdout, stderr: stderr}
	root := newRoot(g, args)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	return g.report(cmd, err)
}

// report tells people about an error and turns it into an exit code.
func (g *globals) report(cmd *cobra.Command, err error) int {
	var code exitCode
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(g.stderr, "error: interrupted")
		return exitError
	}
	// An error quotes names of a host or a project, a line of which is one more of
	// several errors at most.
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = clean(line)
	}
	fmt.Fprintf(g.stderr, "error: %s\n", strings.Join(lines, "\n       "))
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintf(g.stderr, "hint: %s\n", clean(hinted.Hint()))
	}
	if errors.As(err, &usage) {
		if hinted == nil {
			fmt.Fprintf(g.stderr, "hint: %s --help\n", cmd.CommandPath())
		}
		return exitUsage
	}
	return exitError
}

// commands are all there are, in no order: help sorts them.
var commands = []struct {
	name string
	make func(*globals) *cobra.Command
}{
	{"init", newInit}, {"snapshot", newSnapshot}, {"bundle-script", newBundleScript}, {"push", newPush}, {"pull", newPull},
	{"ls", newLs}, {"show", newShow}, {"enter", newEnter}, {"run", newRun}, {"build", newBuild}, {"check", newCheck}, {"group", newGroup}, {"matrix", newMatrix}, {"tools", newTools},
	{"sessions", newSessions}, {"update", newUpdate}, {"gc", newGC}, {"fsck", newFsck}, {"doctor", newDoctor}, {"doctor-tries", newTries}, {"version", newVersion},
}

// newRoot makes the command line for args. Where these begin with a command's name that
// one is made alone: all of them together take half a millisecond.
func newRoot(g *globals, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "stead",
		Short: "Build in production's stead",
		Long: "stead takes a snapshot of a production Linux host as a lockfile and a small delta, makes that\n" +
			"an environment again on any machine, and builds what will run there.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				err = &hintError{err, "stead " + strings.Join(near, ", stead ")}
			}
			return &usageError{err}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVar(&g.fleet, "fleet", "", "folder of the fleet (default: stead.toml's, $STEAD_FLEET)")
	flags.StringVar(&g.progress, "progress", "auto", "how to show progress: auto, bar, lines, json or none (default: $STEAD_PROGRESS, auto)")
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		if err := fromEnvironment(cmd); err != nil {
			return err
		}
		if err := g.checkFlags(cmd); err != nil {
			return err
		}
		return g.namespace(cmd, args)
	}
	wanted := commands
	for i, c := range commands {
		if len(args) > 0 && args[0] == c.name {
			wanted = commands[i : i+1]
		}
	}
	for _, c := range wanted {
		cmd := c.make(g)
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return &usageError{err}
				}
				return nil
			}
		}
		if strings.Contains(cmd.Use, "TARGET") && cmd.Name() != "snapshot" && cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = g.completeTargets
		}
		root.AddCommand(cmd)
	}
	return root
}

// checkFlags is cobra's check of flags that exclude each other, as a usage error, and
// that of those which all commands have.
func (g *globals) checkFlags(cmd *cobra.Command) error {
	if err := checkProgress(g.progress); err != nil {
		return usagef("--progress can't be %q: %w", g.progress, err)
	}
	err := cmd.ValidateFlagGroups()
	if err == nil {
		return nil
	}
	groups := map[string][]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		for _, group := range f.Annotations["cobra_annotation_mutually_exclusive"] {
			groups[group] = append(groups[group], "--"+f.Name)
		}
	})
	for _, set := range groups {
		if len(set) > 1 {
			err = fmt.Errorf("%s exclude each other: give one", strings.Join(set, " and "))
		}
	}
	return &usageError{err}
}

// completeTargets offers the fleet's targets to a shell.
func (g *globals) completeTargets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	w, err := g.open(false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	targets, err := w.fleet.Targets()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return targets, cobra.ShellCompDirectiveNoFileComp
}

// hintError gives an error a way out.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

// work is what most commands begin with.
type work struct {
	project *envs.Project
	user    envs.UserConfig // where there is a store
	fleet   *envs.Fleet
	config  envs.Config
	meter   *meter
	limit   string // snapshot --limit-rate
}

// open opens the project around the current folder, its fleet, and with it the
// store of this machine unless the command needs none.
func (g *globals) open(withStore bool) (*work, error) {
	w := &work{meter: newMeter(g.stderr, g.progress)}
	var err error
	if w.project, err = envs.OpenProject("."); err != nil {
		return nil, err
	}
	if g.fleet != "" {
		w.fleet, err = envs.OpenFleet(g.fleet)
	} else {
		w.fleet, err = w.project.Fleet()
	}
	if err != nil {
		return nil, err
	}
	w.config = envs.Config{Fleet: w.fleet, Progress: w.meter.event}
	for _, note := range w.project.Strays(w.fleet) {
		w.config.Progress.Note("reading", note)
	}
	if !withStore {
		return w, nil
	}
	if w.user, err = envs.ReadUserConfig(); err != nil {
		return nil, err
	}
	dir, err := envs.StoreDir()
	if err != nil {
		return nil, err
	}
	if w.config.Store, err = store.Open(dir); err != nil {
		return nil, err
	}
	return w, g.tellAlone(w.config.Store)
}

// close ends the progress and gives up the store's work folder.
func (w *work) close() error {
	w.meter.close()
	if w.config.Store == nil {
		return nil
	}
	return w.config.Store.Close()
}

// refs are what args name, or all targets of the project where there are none.
func (w *work) refs(args []string) ([]envs.Ref, error) {
	refs, err := w.project.Wanted(args)
	if err != nil {
		return nil, asUsage(err)
	}
	if len(refs) == 0 {
		return nil, &hintError{usagef("no target given, and the project at %s names none", w.project.Dir),
			"stead ls shows the fleet's targets; stead init writes a stead.toml"}
	}
	return refs, nil
}

// releases are those of refs.
func (w *work) releases(args []string, locked bool) ([]envs.Release, error) {
	refs, err := w.refs(args)
	if err != nil {
		return nil, err
	}
	return w.project.Choose(w.fleet, refs, locked)
}

// asUsage makes a badly spelt name on the command line a usage error.
func asUsage(err error) error {
	var name *envs.NameError
	if errors.As(err, &name) {
		return &usageError{err}
	}
	return err
}

// printJSON writes an answer for programs.
func (g *globals) printJSON(v any) error {
	enc := json.NewEncoder(g.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
