//! The header under every compiler and language that is here, with more warnings than most programs ask for.

#[path = "../../../tests/common/c/mod.rs"]
mod c;

const PROGRAM: &str = "#include <barrierd_shared.h>\n\
    int main(void)\n{\n\
    struct barrierd_shared_region *region;\n\
    struct barrierd_shared_reader *reader;\n\
    unsigned char value[13];\n\
    struct barrierd_shared_map map;\n\
    uint64_t key = 7;\n\
    int found;\n\
    if (barrierd_shared_open(\"/dev/shm/limits\", &region) < 0)\n\treturn 1;\n\
    if (barrierd_shared_join(region, &reader) < 0)\n\treturn 1;\n\
    found = barrierd_shared_cell_get(reader, 0, value, sizeof(value));\n\
    if (barrierd_shared_map_at(&map, 1, sizeof(key), sizeof(value), NULL) == 0)\n\
    \tfound += barrierd_shared_map_get(reader, &map, &key, value);\n\
    barrierd_shared_leave(reader);\n\
    barrierd_shared_close(region);\n\
    return found;\n}\n";

#[test]
fn the_header_pleases_them_all() {
    c::BARRIERD_SHARED.pleases_every_compiler(PROGRAM);
}
