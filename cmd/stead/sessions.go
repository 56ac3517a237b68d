package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

func newSessions(g *globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "List the sessions that were kept, compare and remove them",
		Long: "sessions lists what --session of enter and run kept: changes to an env under a name, which go on when\n" +
			"the session is entered again. stead snapshot session:NAME TARGET makes a release of one.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q: there are diff and rm", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runSessions(g, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	cmd.AddCommand(newSessionsDiff(g), newSessionsRm(g))
	return cmd
}

func newSessionsDiff(g *globals) *cobra.Command {
	var asJSON, code bool
	cmd := &cobra.Command{
		Use:   "diff NAME",
		Short: "Show what a session changed",
		Long: "diff lists what a session made, changed and removed, against the release that it was begun on, with a\n" +
			"slash after folders. What stead itself shows inside (the project, homes, name resolution) is no change.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runSessionsDiff(cmd.Context(), g, args[0], asJSON, code)
		},
		ValidArgsFunction: g.completeSessions,
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	cmd.Flags().BoolVar(&code, "exit-code", false, "end with 3 where there is a change")
	return cmd
}

func newSessionsRm(g *globals) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "rm NAME...",
		Short: "Remove sessions with all that they changed",
		Long:  "rm removes sessions with all that they changed. It asks nothing, and leaves what is running.",
		Args: usageArgs(func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("name sessions, or give --all")
			}
			return nil
		}),
		RunE:              func(_ *cobra.Command, args []string) error { return runSessionsRm(g, args, all) },
		ValidArgsFunction: g.completeSessions,
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove all sessions that aren't running")
	return cmd
}

// usageArgs makes what is wrong with arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{err}
		}
		return nil
	}
}

func runSessions(g *globals, asJSON bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	list, err := envs.ListKept(w.config.Store)
	if err != nil {
		return err
	}
	if asJSON {
		return g.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(g.stderr, "no session is kept: stead enter TARGET --session NAME begins one")
		return nil
	}
	out := tabwriter.NewWriter(g.stdout, 0, 0, 2, ' ', 0)
	for _, k := range list {
		state := "used " + ago(time.Since(k.Used)) + " ago"
		switch {
		case k.Problem != "":
			state = clean(k.Problem)
		case k.Running:
			state = "running"
		}
		fmt.Fprintf(out, "%s\t%s@%d\t%d files changed\t%s\tbegun %s ago\t%s\n", k.Name, k.Target, k.Release, k.Changed,
			envs.Bytes(k.Bytes), ago(time.Since(k.Created)), state)
	}
	return out.Flush()
}

// ago is a time span as people say it.
func ago(d time.Duration) string {
	for _, unit := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := int(d / unit.of); {
		case n == 1:
			return "1 " + unit.name
		case n > 1:
			return fmt.Sprintf("%d %ss", n, unit.name)
		}
	}
	return "less than a minute"
}

func runSessionsDiff(ctx context.Context, g *globals, name string, asJSON, code bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	h, err := openKept(ctx, name, w)
	if err != nil {
		return asUsage(err)
	}
	defer h.Close() //nolint:errcheck // it was only read
	w.meter.close()
	list, counts := []envs.KeptChange{}, map[string]int{}
	err = envs.DiffKept(ctx, h, h.Changes, func(c envs.KeptChange) error {
		counts[c.Change]++
		if asJSON {
			list = append(list, c)
			return nil
		}
		_, err := fmt.Fprintln(g.stdout, changeLine(c))
		return err
	})
	if err != nil {
		return fmt.Errorf("comparing session %s: %w", name, err)
	}
	total := counts[envs.Added] + counts[envs.Changed] + counts[envs.Removed]
	if asJSON {
		err = g.printJSON(list)
	} else {
		fmt.Fprintf(g.stderr, "session %s, begun on %s: %d added, %d changed, %d removed\n", name, h.kept.Release(),
			counts[envs.Added], counts[envs.Changed], counts[envs.Removed])
	}
	if err == nil && code && total > 0 {
		return exitCode(exitNegative)
	}
	return err
}

// changeLine is a change as people read it.
func changeLine(c envs.KeptChange) string {
	line := fmt.Sprintf("%-7s  /%s", c.Change, envs.Shown(c.Path))
	if c.Type == "folder" {
		line += "/"
	}
	if len(c.What) > 0 {
		line += "  (" + strings.Join(c.What, ", ") + ")"
	}
	if c.Below > 0 {
		line += fmt.Sprintf("  and %d paths in it", c.Below)
	}
	return line
}

func runSessionsRm(g *globals, names []string, all bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if all {
		if names, err = envs.KeptNames(w.config.Store); err != nil {
			return err
		}
	}
	for _, name := range names {
		if e := envs.DropKept(w.config.Store, name); e != nil {
			err = errors.Join(err, asUsage(e))
		}
	}
	return err
}
