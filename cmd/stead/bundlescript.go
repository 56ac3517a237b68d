package main

import (
	"embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/snapshot/scrub"
)

// bundleScript holds the parts of the script: its rules are those of scrub.
//
//go:embed bundlescript
var bundleScript embed.FS

func newBundleScript(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "bundle-script",
		Short: "Print a shell script that makes a bundle of a host where no foreign program may run",
		Long: "bundle-script prints a script for /bin/sh that reads the host it runs on, and writes what a snapshot\n" +
			"of it needs to one file. It does what stead-bundle does, with the programs that the host has.",
		Example: "  stead bundle-script > stead-bundle.sh      # copy it there: sh stead-bundle.sh / acme.bundle\n" +
			"  stead snapshot bundle:acme.bundle acme",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			text, err := theBundleScript()
			if err == nil {
				_, err = fmt.Fprint(g.stdout, text)
			}
			return err
		},
	}
}

// theBundleScript puts the script together: its parts and rules are comments at its end.
func theBundleScript() (string, error) {
	const dir = "bundlescript/"
	main, err := bundleScript.ReadFile(dir + "main.sh")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.Write(main)
	part := func(name, text string) {
		fmt.Fprintf(&b, "\n#%% %s\n", name)
		for line := range strings.Lines(text) {
			b.WriteString("#-" + line)
		}
		b.WriteString("#% end\n")
	}
	for _, name := range []string{"secrets.sh", "match.awk", "classify.awk", "settle.awk", "assign.awk"} {
		text, err := bundleScript.ReadFile(dir + name)
		if err != nil {
			return "", err
		}
		part(name, string(text))
	}
	part("rules", scrub.Script())
	return b.String(), nil
}
