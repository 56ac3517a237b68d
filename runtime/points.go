package runtime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// pointsFile is where a kept upper folder has the list of mount points that were made
// in it: a quoted path on each line, those of folders with a slash at the end.
const pointsFile = "mountpoints"

// maxPoints bounds that list, in bytes.
const maxPoints = 4 << 20

// points are the mount points that were made in a session's root.
type points struct {
	made []string
	list *os.File // nil where nothing is kept
}

// engineDirs are folders that OCI runtimes make where a root lacks them.
var engineDirs = []string{"dev/", "proc/", "sys/"}

// openPoints finds what was made before, and notes what a runtime is about to make.
func openPoints(spec Spec, root string) (*points, error) {
	p := &points{}
	if spec.Upper == "" {
		return p, nil
	}
	var err error
	if p.made, err = KeptPoints(spec.Upper); err == nil {
		p.list, err = os.OpenFile(filepath.Join(spec.Upper, pointsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("listing mount points: %w", err)
	}
	var missing []string
	for _, dir := range engineDirs {
		if _, err := os.Lstat(filepath.Join(root, dir)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, dir)
		}
	}
	return p, p.add(missing)
}

func (p *points) close() {
	if p.list != nil {
		p.list.Close()
	}
}

// add notes paths that are about to be made, so that even a session which is killed
// now leaves a list that is true.
func (p *points) add(paths []string) error {
	lines := bytes.NewBufferString("\n") // after a line that was cut off, too
	for _, path := range paths {
		if !slices.Contains(p.made, path) {
			p.made = append(p.made, path)
			lines.WriteString(strconv.Quote(path) + "\n")
		}
	}
	if p.list == nil || lines.Len() == 1 {
		return nil
	}
	_, err := p.list.Write(lines.Bytes())
	return err
}

// paths are all that were made, as a file system names them.
func (p *points) paths() []string {
	var clean []string
	for _, path := range p.made {
		clean = append(clean, strings.TrimSuffix(path, "/"))
	}
	return clean
}

// KeptPoints lists the mount points that sessions made in a kept upper folder,
// relative to the root, those of folders with a slash at the end. They are no change of
// the session's as long as nothing else is in them.
func KeptPoints(upper string) ([]string, error) {
	f, err := os.Open(filepath.Join(upper, pointsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var made []string
	lines := bufio.NewScanner(io.LimitReader(f, maxPoints))
	for lines.Scan() {
		path, err := strconv.Unquote(lines.Text())
		if err != nil {
			continue // cut off, when the process that wrote it was killed: nothing was made then
		}
		made = append(made, path)
	}
	return made, lines.Err()
}
