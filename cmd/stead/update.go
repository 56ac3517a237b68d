package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

type updateFlags struct {
	asJSON, renew bool
	engine        string
}

func newUpdate(g *globals) *cobra.Command {
	var f updateFlags
	cmd := &cobra.Command{
		Use:   "update [TARGET...]",
		Short: "Renew what stead.lock chose",
		Long: "update chooses the releases anew that stead.toml asks for, and tools that fit them where the release\n" +
			"or the wishes changed, and writes them to stead.lock. What is still right stays as it is: --renew\n" +
			"chooses all tools anew. A target that there is no answer for keeps what it had.",
		Example: "  stead update\n  stead update acme --renew",
		RunE:    func(cmd *cobra.Command, args []string) error { return runUpdate(cmd.Context(), g, f, args) },
	}
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer as JSON")
	cmd.Flags().BoolVar(&f.renew, "renew", false, "choose tools anew, the newest that fit, where stead.lock's would still do")
	engineFlag(cmd.Flags(), &f.engine)
	return cmd
}

func runUpdate(ctx context.Context, g *globals, f updateFlags, args []string) (err error) {
	project, err := envs.OpenProject(".")
	if err != nil {
		return err
	}
	if !project.Configured {
		return noProject("updating stead.lock")
	}
	w, err := g.open(project.HasTools())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	refs, err := w.project.Wanted(args)
	if err != nil {
		return asUsage(err)
	}
	done, err := w.project.Update(ctx, w.config, refs, envs.UpdateOptions{Renew: f.renew, Tools: g.toolsOptions(w, f.engine)})
	w.meter.close()
	if told := g.tellUpdated(done, f.asJSON); told != nil {
		return errors.Join(err, told)
	}
	failed := 0
	for _, u := range done {
		if u.Error != "" {
			failed++
		}
	}
	all, ok := err.(interface{ Unwrap() []error })
	if failed < 2 || f.asJSON || !ok || len(all.Unwrap()) != failed {
		return err
	}
	for _, err := range envs.Failures(done) { // each with its own way out
		g.report(nil, err)
	}
	return exitCode(exitError)
}

func noProject(doing string) error {
	return &hintError{fmt.Errorf("%s: there is no stead.toml around this folder", doing), "stead init"}
}

// tellUpdated answers what was chosen.
func (g *globals) tellUpdated(done []envs.Updated, asJSON bool) error {
	if asJSON {
		if done == nil {
			done = []envs.Updated{}
		}
		return g.printJSON(done)
	}
	sole := 0
	for _, u := range done {
		sole += u.Sole
		if u.Error != "" {
			continue
		}
		switch {
		case u.Before == u.After:
			fmt.Fprintf(g.stdout, "%s stays at release %d%s\n", u.Target, u.After, toolsOf(u))
		case u.Before == 0:
			fmt.Fprintf(g.stdout, "%s is at release %d%s\n", u.Target, u.After, toolsOf(u))
		default:
			fmt.Fprintf(g.stdout, "%s moved from release %d to %d%s\n", u.Target, u.Before, u.After, toolsOf(u))
		}
		printToolChanges(g.stdout, u.Change)
	}
	if sole > 0 {
		fmt.Fprintf(g.stderr, "%s exist%s only here: stead push\n", counted(sole, "blob"), map[bool]string{true: "s"}[sole == 1])
	}
	return nil
}

// toolsOf says in a few words what tools a target has now.
func toolsOf(u envs.Updated) string {
	switch {
	case u.Tools == 0 && len(u.Change) == 0:
		return ""
	case len(u.Change) == 0:
		return ", with the same " + counted(u.Tools, "package") + " of tools"
	}
	return ", with " + counted(u.Tools, "package") + " of tools"
}

// printToolChanges prints a line for each kind of change.
func printToolChanges(out io.Writer, changes []envs.ToolChange) {
	var added, changed, removed []string
	for _, c := range changes {
		name := clean(c.Package)
		switch {
		case c.Before == "":
			added = append(added, name+" "+clean(c.After))
		case c.After == "":
			removed = append(removed, name+" "+clean(c.Before))
		default:
			changed = append(changed, fmt.Sprintf("%s %s → %s", name, clean(c.Before), clean(c.After)))
		}
	}
	for _, list := range []struct {
		verb string
		what []string
	}{{"added", added}, {"changed", changed}, {"removed", removed}} {
		if len(list.what) > 0 {
			fmt.Fprintf(out, "  %s %s\n", list.verb, strings.Join(list.what, ", "))
		}
	}
}

// counted is a number of things, in words: "1 package", "2 packages".
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
