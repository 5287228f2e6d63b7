// A read-only registry (OCI distribution spec) of the image tars in a directory, so that a kubelet
// that wants to pull, as it does for every tag "latest", gets the images that were built here.
package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// Where a blob is: a piece of a tar.
type blob struct {
	tar          string
	offset, size int64
}

// All images of the directory.
type images struct {
	digests map[string]string // of manifests, by full image name
	blobs   map[string]blob   // by digest
}

type index struct {
	Manifests []struct {
		Digest      string            `json:"digest"`
		Annotations map[string]string `json:"annotations"`
	} `json:"manifests"`
}

func main() {
	listen := flag.String("listen", "127.0.0.1:5000", "address to listen on")
	directory := flag.String("images", "", "directory of OCI layout tars")
	flag.Parse()
	http.HandleFunc("GET /v2/{path...}", func(w http.ResponseWriter, r *http.Request) {
		serve(w, r, *directory)
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

// The directory is read anew for every request: an image may have been built since.
func serve(w http.ResponseWriter, r *http.Request, directory string) {
	path := r.PathValue("path")
	if path == "" {
		return // the check that this is a registry
	}
	all, err := read(directory)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if name, reference, ok := strings.Cut(path, "/manifests/"); ok {
		digest := reference
		if !strings.HasPrefix(reference, "sha256:") {
			digest = all.resolve(r.URL.Query().Get("ns"), name, reference)
		}
		w.Header().Set("Content-Type", manifestType)
		all.send(w, r, digest)
	} else if _, digest, ok := strings.Cut(path, "/blobs/"); ok {
		w.Header().Set("Content-Type", "application/octet-stream")
		all.send(w, r, digest)
	} else {
		http.NotFound(w, r)
	}
}

// containerd says in "ns" which registry it takes this one for.
func (all *images) resolve(registry, name, tag string) string {
	return all.digests[fmt.Sprintf("%s/%s:%s", registry, name, tag)]
}

func (all *images) send(w http.ResponseWriter, r *http.Request, digest string) {
	blob, found := all.blobs[digest]
	if !found {
		http.NotFound(w, r)
		return
	}
	file, err := os.Open(blob.tar)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer file.Close()
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(file, blob.offset, blob.size))
}

func read(directory string) (*images, error) {
	all := &images{digests: map[string]string{}, blobs: map[string]blob{}}
	tars, err := filepath.Glob(filepath.Join(directory, "*.tar"))
	for _, path := range tars {
		err = errors.Join(err, all.readTar(path))
	}
	return all, err
}

func (all *images) readTar(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	entries := tar.NewReader(file)
	for {
		header, err := entries.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		// tar.Reader reads headers by the block, so this is where the content starts.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if digest, ok := strings.CutPrefix(header.Name, "blobs/sha256/"); ok {
			all.blobs["sha256:"+digest] = blob{path, offset, header.Size}
		} else if header.Name == "index.json" {
			if err := all.readIndex(entries); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
}

func (all *images) readIndex(from io.Reader) error {
	var index index
	if err := json.NewDecoder(from).Decode(&index); err != nil {
		return err
	}
	for _, manifest := range index.Manifests {
		all.digests[manifest.Annotations["io.containerd.image.name"]] = manifest.Digest
	}
	return nil
}
