// Command exact tells whether an environment is the host that it was made from, and whether
// planted secrets got out. It shares no code with stead, on purpose: it states the
// classes of paths once more, from the outside.
//
//	exact [-secrets FILE] HOST ROOT      compares a host with a made root
//	exact -scan -secrets FILE DIR…       looks for planted secrets below folders
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	secrets := flag.String("secrets", "", "file with a planted secret on each line: MARKER<tab>PATH")
	scan := flag.Bool("scan", false, "look for the secrets below folders")
	flag.Parse()
	planted, err := readSecrets(*secrets)
	var fine bool
	switch {
	case err != nil:
	case *scan && flag.NArg() > 0 && len(planted) > 0:
		fine, err = scanSecrets(os.Stdout, planted, flag.Args())
	case !*scan && flag.NArg() == 2:
		fine, err = compare(os.Stdout, flag.Arg(0), flag.Arg(1), planted)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if err != nil || !fine {
		os.Exit(1)
	}
}

// secret is something on a host that must not leave it.
type secret struct {
	marker []byte
	path   string // without the leading slash
}

func readSecrets(file string) ([]secret, error) {
	if file == "" {
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []secret
	for line := range bytes.Lines(content) {
		marker, path, ok := bytes.Cut(bytes.TrimSpace(line), []byte{'\t'})
		if !ok || len(marker) < 16 {
			return nil, fmt.Errorf("%s: not a marker and a path: %q", file, line)
		}
		all = append(all, secret{marker, strings.TrimPrefix(string(path), "/")})
	}
	return all, nil
}
