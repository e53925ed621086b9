//! Images in layers: OCI layouts and what docker saves.

use super::*;

#[test]
#[ignore = "needs root: it becomes users"]
fn an_image_is_the_same_pulled_and_imported() {
    let (fake, world) = site();
    let pulled = json(&world.tool(ALICE, &["pull", "--json", "plain:1"]).ok());
    let id = world.image();
    world.tool(ALICE, &["rm", "plain:1"]).ok();
    assert_eq!(world.files("store"), NOTHING);

    layout(&world, &fake);
    alice(
        &world,
        "skopeo copy -q oci:oci:1 oci-archive:app.oci:app:1; gzip -k app.oci; tar -C oci -cf late.tar blobs oci-layout index.json",
    );
    for source in [
        "oci:oci",
        "oci:oci:1",
        "oci-archive:app.oci",
        "oci-archive:app.oci:app:1",
        "oci-archive:app.oci.gz",
        "oci-archive:late.tar",
    ] {
        let done = import(&world, ALICE, &["--json", source, "app:1"]).ok();
        let said = json(&done);
        assert_eq!(said["image"], format!("user:{ALICE}/app:1"));
        assert_eq!((&said["digest"], &said["new"]), (&pulled["digest"], &true.into()), "{source}");
        assert_eq!(world.image(), id, "{source}");
        assert!(done.err().contains("import --readable"), "{}", done.err());
        let again = json(&import(&world, ALICE, &["--json", source, "app:1"]).ok());
        assert_eq!(again["new"], false);
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app:1")]).ok();
        assert_eq!(world.files("store"), NOTHING);
    }
}

#[test]
#[ignore = "needs root: it becomes users"]
fn dockers_archives_have_the_digest_that_skopeo_shows() {
    let (fake, world) = site();
    layout(&world, &fake);
    alice(&world, "skopeo copy -q oci:oci:1 docker-archive:app.tar:app:1; gzip -k app.tar");
    let shown = alice(&world, "skopeo inspect --raw docker-archive:app.tar | sha256sum");
    let digest = format!("sha256:{}", shown.split_whitespace().next().unwrap());
    for source in
        ["docker-archive:app.tar", "docker-archive:app.tar:app:1", "docker-archive:app.tar.gz:@0"]
    {
        let said = json(&import(&world, ALICE, &["--json", source, "app"]).ok());
        assert_eq!(said["digest"], digest, "{source}");
        let shown = world.in_image(
            &world.image(),
            "cat $1/etc/hello; stat -c %s $1/noise; jq -c .env $1/.shifter/image.json",
        );
        assert_eq!(shown, "hello\n1048576\n[\"PATH=/bin\"]\n");
        world.tool(ALICE, &["rm", &format!("user:{ALICE}/app")]).ok();
    }
    // As docker wrote them for years: a layer is a link to another's, the list comes last.
    alice(
        &world,
        r#"mkdir old; cd old; tar xf ../app.tar; layer=$(jq -r '.[0].Layers[0]' manifest.json)
        mkdir one two; mv "$layer" one/layer.tar; ln -sf ../one/layer.tar two/layer.tar
        jq '.[0].Layers[0] = "two/layer.tar"' manifest.json >m; mv m manifest.json
        tar cf ../old.tar one two ./*.json"#,
    );
    let said = json(&import(&world, ALICE, &["--json", "docker-archive:old.tar", "app"]).ok());
    assert_eq!(said["digest"], digest);
    // Layers that are compressed in it are the same layers.
    alice(
        &world,
        "cd old; gzip -n <one/layer.tar >zipped; mv -f zipped one/layer.tar; tar cf ../zipped.tar *.json two one",
    );
    let said = json(&import(&world, ALICE, &["--json", "docker-archive:zipped.tar", "app"]).ok());
    assert_eq!((&said["digest"], &said["new"]), (&digest.into(), &false.into()));
    import(&world, ALICE, &["docker-archive:app.tar:other:1", "x"])
        .fails(1, &["there is no image other:1 in it", "it has: ", "app:1"]);
}
