package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

func newFsck(g *globals) *cobra.Command {
	var asJSON, drop bool
	cmd := &cobra.Command{
		Use:   "fsck [TARGET...]",
		Short: "Compare envs and store with their locks, byte by byte",
		Long: "fsck compares what this machine has of a release with its lock, path by path, and names each\n" +
			"difference. It ends with 3 where there is one.",
		RunE: func(cmd *cobra.Command, args []string) error { return runFsck(cmd.Context(), g, args, asJSON, drop) },
	}
	cmd.Flags().BoolVar(&drop, "drop", false, "remove what differs, so that the next pull makes it anew")
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer as JSON")
	return cmd
}

// fsckAnswer is what fsck found of one release.
type fsckAnswer struct {
	*envs.FsckResult
	List []envs.Difference `json:"list"`
}

// maxListed bounds the differences that are kept for a JSON answer; all are counted.
const maxListed = 10_000

func runFsck(ctx context.Context, g *globals, args []string, asJSON, drop bool) (err error) {
	w, err := g.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	releases, err := w.releases(args, false)
	if err != nil {
		return err
	}
	differs := false
	answers := []fsckAnswer{}
	for _, rel := range releases {
		list := []envs.Difference{}
		res, err := envs.Fsck(ctx, w.config, rel, envs.FsckOptions{
			Drop:   drop,
			Folder: func(dir string) (snapshot.Host, error) { return host.Folder(dir) },
			Report: func(d envs.Difference) {
				if asJSON {
					if len(list) < maxListed {
						list = append(list, d)
					}
					return
				}
				w.meter.pause(func() { fmt.Fprintf(g.stdout, "%s\n", clean(d.String())) })
			},
		})
		if err != nil {
			return err
		}
		w.meter.close()
		differs = differs || res.Differences > 0
		answers = append(answers, fsckAnswer{res, list})
		if !asJSON {
			printFsck(g, res)
		}
	}
	if asJSON {
		if err := g.printJSON(answers); err != nil {
			return err
		}
	}
	if differs {
		return exitCode(exitNegative)
	}
	return nil
}

func printFsck(g *globals, res *envs.FsckResult) {
	verdict := "no difference"
	if res.Differences > 0 {
		verdict = fmt.Sprintf("%d differences", res.Differences)
	}
	fmt.Fprintf(g.stdout, "%s: %d paths, %s and %d blobs read: %s\n", res.Release, res.Paths, envs.Bytes(res.Bytes), res.Blobs, verdict)
	switch {
	case res.Dropped > 0:
		fmt.Fprintf(g.stderr, "hint: what differed is gone; stead pull %s makes it anew\n", res.Release)
	case res.Differences > 0:
		fmt.Fprintf(g.stderr, "hint: stead fsck --drop %s removes what differs, and stead pull makes it anew\n", res.Release)
	}
	if !res.OwnersHeld {
		fmt.Fprintln(g.stderr, "owners were not compared: this store can't hold them, and their manifest does")
	}
	if res.Unheld > 0 {
		fmt.Fprintf(g.stderr, "owners of %d paths were not compared: your subordinate ids don't go as far, and the manifest holds them\n", res.Unheld)
	}
	if res.Shut > 0 {
		fmt.Fprintf(g.stderr, "the content of %d files was not compared: their mode keeps you from reading them\n", res.Shut)
	}
}
