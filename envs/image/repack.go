package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/stead-env/stead/snapshot"
)

// Repack makes a package file of what is installed, for a package that no archive
// has. The same files give the same bytes: nothing is compressed, and no time but
// the files' own goes in. records are the contents of the package manager's records
// by member name; files are the host's, with the paths that the package gives them;
// open returns a file's content.
func Repack(ctx context.Context, out io.Writer, pkg snapshot.Package, records map[string][]byte, times map[string]int64,
	files []snapshot.File, open func(f snapshot.File) (io.ReadCloser, error)) error {
	var control bytes.Buffer
	if err := repackControl(&control, pkg, records, times); err != nil {
		return err
	}
	data := dataTar{files: files, open: open}
	var size counter
	if err := data.write(ctx, &size, false); err != nil {
		return err
	}
	if _, err := io.WriteString(out, debMagic); err != nil {
		return err
	}
	version := "2.0\n"
	for _, m := range []struct {
		name  string
		size  int64
		write func() error
	}{
		{"debian-binary", int64(len(version)), func() error { _, err := io.WriteString(out, version); return err }},
		{"control.tar", int64(control.Len()), func() error { _, err := out.Write(control.Bytes()); return err }},
		{"data.tar", int64(size), func() error { return data.write(ctx, out, true) }},
	} {
		// deb(5): names and numbers are padded with spaces, members to even sizes.
		if _, err := fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", m.size); err != nil {
			return err
		}
		if err := m.write(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if m.size%2 == 1 {
			if _, err := io.WriteString(out, "\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func repackControl(out io.Writer, pkg snapshot.Package, records map[string][]byte, times map[string]int64) error {
	members := []string{"control"}
	for name := range records {
		members = append(members, name)
	}
	slices.Sort(members)
	tw := tar.NewWriter(out)
	for _, name := range members {
		content, mode := records[name], int64(0o644)
		switch name {
		case "control":
			content = pkg.Control
		case "preinst", "postinst", "prerm", "postrm", "config":
			mode = 0o755
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: mode, Size: int64(len(content)),
			ModTime: time.Unix(times[name], 0), Uname: "root", Gname: "root", Format: tar.FormatGNU}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(content); err != nil {
			return err
		}
	}
	return tw.Close()
}

// dataTar writes the files of a package in the order of their paths.
type dataTar struct {
	files []snapshot.File
	open  func(f snapshot.File) (io.ReadCloser, error)
}

func (d dataTar) write(ctx context.Context, out io.Writer, content bool) error {
	files := slices.Clone(d.files)
	slices.SortFunc(files, func(a, b snapshot.File) int { return cmp.Compare(a.Path, b.Path) })
	tw := tar.NewWriter(out)
	first := map[string]string{}
	for _, f := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		h := header(f)
		h.Name, h.Format, h.PAXRecords = "./"+h.Name, tar.FormatGNU, nil // dpkg reads no PAX records
		if f.Path == "." {
			h.Name = "./"
		}
		if to, ok := first[f.Link]; ok && f.Link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, "./"+to, 0
		} else if f.Link != "" {
			first[f.Link] = f.Path
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("%q: %w", "/"+f.Path, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := d.body(tw, f, content); err != nil {
			return fmt.Errorf("%q: %w", "/"+f.Path, err)
		}
	}
	return tw.Close()
}

// body writes a file's content, or as many zeros where only the size counts.
func (d dataTar) body(tw *tar.Writer, f snapshot.File, content bool) error {
	if !content {
		for n := f.Size; n > 0; n -= min(n, int64(len(zeros))) {
			if _, err := tw.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := d.open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	return copyContent(tw, r, f.Size)
}

var zeros [64 << 10]byte
