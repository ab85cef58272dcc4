def test_the_room_holds_the_files_the_clauses_are_tried_on(room):
    assert len(room.refs) > 40
    assert room.get(room.study_url("CT_small.dcm") + "/metadata").status_code == 200
