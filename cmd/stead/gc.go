package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
)

func newGC(g *globals) *cobra.Command {
	var asJSON, dry bool
	var forget []string
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove from the store what the fleet doesn't need",
		Long: "gc removes what no release of the fleet needs and what can be made again. It never takes the only\n" +
			"copy of something: only --forget does. What a named session stands on stays, too, and the tools of\n" +
			"projects that are worked with here.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGC(cmd.Context(), g, forget, dry, asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only tell what would be removed")
	cmd.Flags().StringArrayVar(&forget, "forget", nil, "drop the blob with this digest, even the only copy")
	return cmd
}

func runGC(ctx context.Context, g *globals, forget []string, dry, asJSON bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for _, s := range forget {
		d, err := digest.Parse(s)
		if err != nil {
			return usagef("--forget %q: %w", s, err)
		}
		if dry {
			continue
		}
		if err := envs.Forget(w.config, d); err != nil {
			return err
		}
	}
	done, err := envs.GC(ctx, w.config, dry)
	w.meter.close()
	if err != nil {
		return err
	}
	// Whatever comes of that, what was done in the store is told.
	defer func() { err = errors.Join(err, g.pruneImages(ctx, w, dry)) }()
	if asJSON {
		return g.printJSON(done)
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	fmt.Fprintf(g.stdout, "%s %d roots, %d layers of tools, %d trees, %d blobs, %d views\n", verb, done.Roots, done.Layers, done.Trees, done.Blobs, done.Views)
	if len(done.Sessions) > 0 {
		fmt.Fprintf(g.stderr, "what these sessions stand on stays, though the fleet doesn't name it: %s\n", strings.Join(done.Sessions, ", "))
	}
	if done.Sole > 0 {
		fmt.Fprintf(g.stderr, "%d blobs that the fleet doesn't name exist only here and stay\n", done.Sole)
	}
	return nil
}

// pruneImages removes the images that were made in containerd of roots which the store
// no longer has. Who doesn't use it isn't told that there is none.
func (g *globals) pruneImages(ctx context.Context, w *work, dry bool) error {
	st, engine := w.config.Store, newContainerd(w.user)
	if name, err := namedEngine(w.user, ""); err != nil || name != engine.Name() && engine.Check(ctx) != nil {
		return err
	}
	removed, err := engine.Prune(ctx, envs.ScratchDir(st), dry, func(identity string) bool {
		d, err := digest.Parse(identity)
		if err != nil {
			return false
		}
		_, ok := st.Find(store.Roots, envs.RootName(d))
		return ok
	})
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	for _, name := range removed {
		fmt.Fprintf(g.stderr, "%s containerd's image %s\n", verb, name)
	}
	return err
}
