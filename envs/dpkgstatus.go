package envs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// dpkgStatus are the versions and states of all packages of a root, by name and
// architecture, as dpkg's own file has them: "1.0-1\tinstalled" of "gcc\tamd64".
func dpkgStatus(dir string) (map[string]string, error) {
	const name = "var/lib/dpkg/status"
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	defer f.Close()
	all, err := parseStatus(f)
	if err != nil {
		return nil, fmt.Errorf("reading /%s: %w", name, err)
	}
	return all, nil
}

// maxInstalled bounds the packages of a root.
const maxInstalled = 200_000

// parseStatus reads stanzas of deb-control(5), of which only short fields count.
func parseStatus(r io.Reader) (map[string]string, error) {
	all := map[string]string{}
	fields := map[string]string{}
	flush := func() error {
		state := strings.Fields(fields["Status"])
		if fields["Package"] != "" && len(state) == 3 {
			all[fields["Package"]+"\t"+fields["Architecture"]] = fields["Version"] + "\t" + state[2]
		}
		clear(fields)
		if len(all) > maxInstalled {
			return fmt.Errorf("it has more than %d packages", maxInstalled)
		}
		return nil
	}
	lines := bufio.NewReaderSize(r, 4096)
	for whole := true; ; {
		line, err := lines.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		begins := whole
		whole = !errors.Is(err, bufio.ErrBufferFull)
		text := strings.TrimRight(string(line), "\r\n")
		name, value, ok := strings.Cut(text, ":")
		switch {
		case !begins || !whole: // a long field
		case text == "":
			if err := flush(); err != nil {
				return nil, err
			}
		case ok && (name == "Package" || name == "Architecture" || name == "Version" || name == "Status"):
			fields[name] = strings.TrimSpace(value)
		}
		if err == io.EOF {
			return all, flush()
		}
	}
}
