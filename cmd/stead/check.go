package main

import (
	"context"
	"errors"
	"path/filepath"
	"runtime/debug"
	"slices"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
)

type checkFlags struct {
	places                      []string // --for
	all, locked, strict, asJSON bool
	archives                    bool // --search-archive

	at, format string
}

func newCheck(g *globals) *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check FILE|FOLDER|ARCHIVE... [--for TARGET|HOST]... [--all]",
		Short: "Tell whether files will start on targets, and why not",
		Long: "check follows the loader of each target: whether programs, libraries, scripts, and what folders, .deb,\n" +
			".rpm, tar, zip and wheel files hold will start there, by the lock and its index alone. It runs nothing and\n" +
			"needs no env. Without --for it judges for the project's targets.\n\n" +
			"Each answer is one of three:\n" +
			"  starts    everything that the loader looks for is there\n" +
			"  fails     something isn't: what, who has it instead, and what to do\n" +
			"  unproven  it depends on what can't be known, such as a library that is loaded by a name made at run time\n\n" +
			"It ends with 3 where anything fails, and with --strict where anything is unproven.\n\n" +
			"HOST is /, which needs neither fleet nor store, the folder of a root, or what snapshot takes as a host.\n" +
			"What is shipped together finds each other: files, and folders beside them, as they lie here and below --at;\n" +
			"what a package or an archive holds at its own places.\n\n" +
			"What it can't see: a library whose structures or behavior changed behind unchanged names, instructions that\n" +
			"a processor lacks where no note or build flag tells of them, and data files, services or permissions that a\n" +
			"program looks for once it runs. A trial in stead.toml finds some of that.",
		Example: "  stead check dist/acme/app --for acme --for globex:next\n  stead check app.deb --all --strict\n" +
			"  stead check build/ --at /opt/app --format junit >check.xml\n  stead check ./app --for /",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.all && len(f.places) > 0 {
				return usagef("--all is every target: give no --for")
			}
			if f.asJSON && cmd.Flags().Changed("format") && f.format != "json" {
				return usagef("--json and --format %s can't both be meant", f.format)
			}
			if f.asJSON {
				f.format = "json"
			}
			return runCheck(cmd.Context(), g, f, args)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.places, "for", nil, "a target (acme, acme@2, globex:next) or host (/, a folder, ssh://…) to judge for")
	flags.BoolVar(&f.all, "all", false, "judge for every target of the project, or of the fleet where the project names none")
	flags.BoolVar(&f.locked, "locked", false, "fail where stead.lock doesn't match")
	flags.StringVar(&f.at, "at", "", "the folder on the target that files and folders will lie in (default: one that no target has)")
	flags.BoolVar(&f.strict, "strict", false, "what is unproven fails, too")
	flags.BoolVar(&f.archives, "search-archive", false, "look for what is missing in the archives of targets, too: fetches packages")
	flags.StringVar(&f.format, "format", "text", "what to print: text, json, github (annotations) or junit")
	flags.BoolVar(&f.asJSON, "json", false, "answer as JSON")
	if err := cmd.RegisterFlagCompletionFunc("for", g.completeTargets); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

// collectAt leaves the collector at rest, in percent of what is alive, until the heap is
// much larger than what one program takes: a check that is done in 30 ms has no use for it.
const collectAt = 4000

func runCheck(ctx context.Context, g *globals, f checkFlags, args []string) (err error) {
	i := slices.IndexFunc(checkFormats, func(c struct {
		name  string
		print func(*globals, *envs.Checked, bool) error
	}) bool {
		return c.name == f.format
	})
	if i < 0 {
		return usagef("--format is text, json, github or junit, not %q", f.format)
	}
	debug.SetGCPercent(collectAt)
	if f.at != "" && !filepath.IsAbs(f.at) {
		return usagef("--at is a folder on the target, an absolute path, not %q", f.at)
	}
	w, systems, err := g.openCheck(ctx, f)
	if w != nil {
		defer func() { err = errors.Join(err, w.close()) }()
	}
	if err != nil {
		return err
	}
	opts := envs.CheckOptions{At: f.at, Project: w.project}
	if f.archives {
		if err := w.makeStore(); err != nil {
			return err
		}
		tools := g.toolsOptions(w, "").ToolsOptions
		opts.Archives = &tools
	}
	c, err := envs.Check(ctx, w.config, systems, args, opts)
	w.meter.close()
	if err != nil {
		return err
	}
	if err := checkFormats[i].print(g, c, f.strict); err != nil {
		return err
	}
	if c.Fails > 0 || f.strict && c.Unproven > 0 {
		return exitCode(exitNegative)
	}
	return nil
}
