"""How hidden variables tie rows together: e_step and m_step from families."""
