package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

func newTools(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tools",
		Short: "Say what a project builds with: add, remove, list, why",
		Long: "tools tells what stead.toml asks for and what stead.lock chose: packages that are added to the env of\n" +
			"a target without moving one of its own. A wish is a package (gcc, gcc=4:10.2.1-1, libfoo-dev:i386),\n" +
			"pkgconfig:MODULE, or file:/PATH.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q: there are add, remove, list and why", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runToolsList(g, toolsListFlags{}, nil) },
	}
	for _, sub := range []*cobra.Command{newToolsAdd(g), newToolsRemove(g), newToolsList(g), newToolsWhy(g)} {
		check := sub.Args
		sub.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{err}
			}
			return nil
		}
		cmd.AddCommand(sub)
	}
	return cmd
}

type toolsFlags struct {
	target, engine string
	asJSON         bool
}

func (f *toolsFlags) add(g *globals, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.target, "target", "", "for this target alone: it has a list of its own then")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer as JSON")
	engineFlag(cmd.Flags(), &f.engine)
	if err := cmd.RegisterFlagCompletionFunc("target", g.completeTargets); err != nil {
		panic(err) // there is no such flag
	}
}

func newToolsAdd(g *globals) *cobra.Command {
	var f toolsFlags
	cmd := &cobra.Command{
		Use:   "add WISH...",
		Short: "Ask for more tools",
		Long: "add finds packages that grant the wishes on every target, makes them ready, and only then writes\n" +
			"stead.toml and stead.lock. Where a target has no answer nothing changes.",
		Example: "  stead tools add gcc make pkgconfig:openssl\n  stead tools add file:/usr/bin/cmake --target acme",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runToolsChange(cmd.Context(), g, f, args, envs.WithWishes)
		},
	}
	f.add(g, cmd)
	return cmd
}

func newToolsRemove(g *globals) *cobra.Command {
	var f toolsFlags
	cmd := &cobra.Command{
		Use:               "remove WISH...",
		Aliases:           []string{"rm"},
		Short:             "Don't ask for some tools any more",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: g.completeWishes,
		RunE: func(cmd *cobra.Command, args []string) error {
			return runToolsChange(cmd.Context(), g, f, args, envs.WithoutWishes)
		},
	}
	f.add(g, cmd)
	return cmd
}

func runToolsChange(ctx context.Context, g *globals, f toolsFlags, wishes []string, change func(list, by []string) ([]string, error)) (err error) {
	for _, wish := range wishes {
		if err := envs.CheckWish(wish); err != nil {
			return &usageError{err}
		}
	}
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if !w.project.Configured {
		return noProject("changing stead.toml")
	}
	own := w.project.OwnTools()
	done, err := w.project.ChangeTools(ctx, w.config, f.target, func(list []string) ([]string, error) { return change(list, wishes) },
		envs.UpdateOptions{Tools: g.toolsOptions(w, f.engine)})
	w.meter.close()
	if err != nil {
		return err
	}
	if f.target == "" && len(own) > 0 {
		fmt.Fprintf(g.stderr, "%s: these have lists of their own, which --target changes\n", strings.Join(own, ", "))
	}
	return g.tellUpdated(done, f.asJSON)
}

// completeWishes offers what stead.toml asks for to a shell.
func (g *globals) completeWishes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	p, err := envs.OpenProject(".")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	wishes := slices.Clone(p.Config.Tools)
	for _, t := range p.Config.Target {
		wishes = append(wishes, t.Tools...)
	}
	slices.Sort(wishes)
	return slices.Compact(wishes), cobra.ShellCompDirectiveNoFileComp
}

type toolsListFlags struct{ all, shadows, asJSON bool }

func newToolsList(g *globals) *cobra.Command {
	var f toolsListFlags
	cmd := &cobra.Command{
		Use:               "list [TARGET...]",
		Aliases:           []string{"ls"},
		Short:             "List the tools of each target",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: g.completeTargets,
		RunE:              func(_ *cobra.Command, args []string) error { return runToolsList(g, f, args) },
	}
	cmd.Flags().BoolVar(&f.all, "all", false, "list what is needed by others, too")
	cmd.Flags().BoolVar(&f.shadows, "shadows", false, "list the target's own paths that the tools have in another form")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "answer as JSON")
	return cmd
}

func runToolsList(g *globals, f toolsListFlags, args []string) error {
	w, err := g.open(false)
	if err != nil {
		return err
	}
	refs, err := w.project.Wanted(args)
	if err != nil {
		return asUsage(err)
	}
	list, err := w.project.ListTools(refs)
	if err != nil {
		return err
	}
	if f.asJSON {
		return g.printJSON(list)
	}
	for i, t := range list {
		if f.shadows {
			for _, p := range t.Shadows {
				fmt.Fprintf(g.stdout, "%s  %s\n", t.Target, clean(p))
			}
			continue
		}
		if i > 0 {
			fmt.Fprintln(g.stdout)
		}
		if err := printTools(g.stdout, t, f.all); err != nil {
			return err
		}
	}
	return nil
}

func printTools(out io.Writer, t envs.TargetTools, all bool) error {
	name := t.Target
	if t.Release > 0 {
		name = fmt.Sprintf("%s@%d", t.Target, t.Release)
	}
	if len(t.Wishes) == 0 {
		fmt.Fprintf(out, "%s: no tools\n", name)
		return nil
	}
	var size int64
	named := map[string]bool{}
	for _, p := range t.Packages {
		size += p.Size
	}
	fmt.Fprintf(out, "%s: %s, %s to fetch\n", name, counted(len(t.Packages), "package"), envs.Bytes(size))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(wish string, p envs.ToolPackage, size, from string) {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", clean(wish), clean(p.Package), clean(p.Version), size, clean(from))
	}
	fmt.Fprintf(w, "  WISH\tPACKAGE\tVERSION\tSIZE\tFROM\n")
	for _, g := range t.Wishes {
		named[g.Package+":"+g.Architecture] = true
		switch {
		case g.Open:
			line(g.Wish, g.ToolPackage, "", "not chosen yet: stead update")
		case g.Base:
			line(g.Wish, g.ToolPackage, "", "the target itself")
		case g.Stale:
			line(g.Wish, g.ToolPackage, envs.Bytes(g.Size), "not asked for any more: stead update")
		default:
			line(g.Wish, g.ToolPackage, envs.Bytes(g.Size), g.From)
		}
	}
	for _, p := range t.Packages {
		if all && !named[p.Package+":"+p.Architecture] {
			line("", p, envs.Bytes(p.Size), p.From)
		}
	}
	return w.Flush()
}

func newToolsWhy(g *globals) *cobra.Command {
	var asJSON bool
	var target string
	cmd := &cobra.Command{
		Use:   "why PACKAGE",
		Short: "Tell which wish brought a package",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return runToolsWhy(g, target, args[0], asJSON)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "for this target alone")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	if err := cmd.RegisterFlagCompletionFunc("target", g.completeTargets); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

func runToolsWhy(g *globals, target, name string, asJSON bool) error {
	w, err := g.open(false)
	if err != nil {
		return err
	}
	var args []string
	if target != "" {
		args = []string{target}
	}
	refs, err := w.project.Wanted(args)
	if err != nil {
		return asUsage(err)
	}
	reasons, err := w.project.WhyTool(w.fleet, refs, name)
	if err != nil {
		return err
	}
	if asJSON {
		return g.printJSON(reasons)
	}
	for _, r := range reasons {
		if r.Base {
			fmt.Fprintf(g.stdout, "%s: %s %s is the target's own\n", r.Target, clean(r.Package), clean(r.Version))
			continue
		}
		fmt.Fprintf(g.stdout, "%s: %s %s\n", r.Target, clean(r.Package), clean(r.Version))
		for _, c := range r.Chains {
			fmt.Fprintf(g.stdout, "  %s\n", clean(c.String()))
		}
	}
	return nil
}
