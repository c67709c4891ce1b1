"""JoyVASA's motion generator (jdh-algo/JoyVASA, MIT), written from its specification; published names kept."""
